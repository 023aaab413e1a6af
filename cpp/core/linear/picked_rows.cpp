#include "picked_rows.hpp"

#include <algorithm>
#include <cstring>

#include "../runtime/row_blocks.hpp"
#include "../runtime/units.hpp"

namespace boltzmax {

namespace {

// Rows this far ahead are prefetched: processors see no pattern in random rows.
constexpr size_t kAhead = 6;
// The least number of elements of each row that a thread adds up.
constexpr size_t kLeastColumns = 64;

// Most of the time goes into waiting for distant rows.
double Cost(const RowForm& form) {
  return 0.5 * EstimateNanoseconds(form.count * form.n, form.storage) + 20.0 * static_cast<double>(form.count);
}

template <class T>
class Rows {
 public:
  Rows(const PickedRows& rows, const RowForm& form)
      : data_(reinterpret_cast<T*>(rows.data)), at_(rows.at), count_(form.count), n_(form.n) {}

  T* operator[](size_t i) const { return data_ + (at_ == nullptr ? i : static_cast<size_t>(at_[i])) * n_; }

  // Prefetches part of a row that will be wanted soon, if no processor could foresee it.
  void Foresee(size_t i, size_t begin, size_t n) const {
    if (at_ != nullptr && i + kAhead < count_) Prefetch((*this)[i + kAhead] + begin, n);
  }

 private:
  T* data_;
  const int64_t* at_;
  size_t count_, n_;
};

}  // namespace

void CopyRows(const RowForm& form, const PickedRows& from, char* to) {
  WithType(form.storage, [&](auto zero) {
    using T = decltype(zero);
    const Rows<T> rows(from, form);
    ForEachRowBlock(form.count, form.n, Cost(form), [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        rows.Foresee(i, 0, form.n);
        std::memcpy(reinterpret_cast<T*>(to) + i * form.n, rows[i], form.n * sizeof(T));
      }
    });
  });
}

void DotRows(const RowForm& form, const PickedRows& a, const PickedRows& b, double* z) {
  WithType(form.storage, [&](auto zero) {
    using T = decltype(zero);
    const Rows<T> left(a, form), right(b, form);
    ForEachRowBlock(form.count, form.n, Cost(form), [&](size_t begin, size_t end) {
      for (size_t i = begin; i < end; ++i) {
        left.Foresee(i, 0, form.n);
        right.Foresee(i, 0, form.n);
        const T* x = left[i];
        const T* row = right[i];
        T dot;
        Units<T>().dot_rows(&x, 1, &row, 1, form.n, &dot);
        z[i] = static_cast<double>(dot);
      }
    });
  });
}

void AddRows(const RowForm& form, const PickedRows& sums, const double* gain, const PickedRows& rows) {
  WithType(form.storage, [&](auto zero) {
    using T = decltype(zero);
    const Rows<T> to(sums, form), from(rows, form);
    // Threads share the columns, so that each sum is one thread's.
    ParallelBlocks(form.n, kLeastColumns, Cost(form), [&](size_t begin, size_t end) {
      for (size_t i = 0; i < form.count; ++i) {
        to.Foresee(i, begin, end - begin);
        from.Foresee(i, begin, end - begin);
        T* sum = to[i] + begin;
        const T* row = from[i] + begin;
        const T factor = gain == nullptr ? T(1) : static_cast<T>(gain[i]);
        Units<T>().add_rows(&sum, 1, &row, 1, {&factor, 0, 0}, end - begin);
      }
    });
  });
}

}  // namespace boltzmax
