#include "draws.hpp"

#include <algorithm>
#include <vector>

#include "../runtime/parallel.hpp"

namespace boltzmax {

namespace {

// A rough estimate of the time for a draw, in nanoseconds.
constexpr double kCost = 10.0;

// Neighbouring draws of a row, at most a batch.
struct Batch {
  size_t row, first, count;
};

// Draws again, attempt after attempt, what was excluded.
void Redraw(const CandidateProblem& p, const PhiloxKey& key, const Batch& b, int64_t* ids, double* log_p) {
  std::vector<size_t> open(b.count);
  for (size_t i = 0; i < b.count; ++i) open[i] = i;
  BatchWords words;
  int64_t drawn[kDrawBatch];
  double log_of_drawn[kDrawBatch];
  for (uint32_t attempt = 1;; ++attempt) {
    open.erase(std::remove_if(open.begin(), open.end(), [&](size_t i) { return !p.excluded.Has(b.row, ids[i]); }),
               open.end());
    if (open.empty()) return;
    const uint64_t row = p.first_row + b.row;
    for (size_t j = 0; j < open.size(); ++j) {
      const PhiloxBlock block =
          Philox(key, PhiloxBlock{{static_cast<uint32_t>(b.first + open[j]), CandidatePurpose(attempt),
                                   static_cast<uint32_t>(row), static_cast<uint32_t>(row >> 32)}});
      for (size_t w = 0; w < 4; ++w) words.word[w][j] = block.word[w];
    }
    p.proposal->Draw(words, open.size(), drawn, log_of_drawn);
    for (size_t j = 0; j < open.size(); ++j) {
      ids[open[j]] = drawn[j];
      log_p[open[j]] = log_of_drawn[j];
    }
  }
}

void DrawBatch(const CandidateProblem& p, const PhiloxKey& key, const Batch& b) {
  BatchWords words;
  ActiveCandidates().words(key, {p.first_row + b.row, CandidatePurpose(0), b.first}, b.count, &words);
  const size_t at = b.row * p.n + b.first;
  p.proposal->Draw(words, b.count, p.ids + at, p.log_q + at);
  if (p.excluded.offsets != nullptr) Redraw(p, key, b, p.ids + at, p.log_q + at);
  for (size_t i = 0; i < b.count; ++i) p.log_q[at + i] += p.shift[b.row];
}

// The classes that a row has met.
class ClassSet {
 public:
  explicit ClassSet(size_t most) : mask_(1) {
    while (mask_ < 2 * most) mask_ *= 2;
    slots_.assign(mask_--, kFree);
  }

  // False if it was there.
  bool Insert(int64_t id) {
    size_t i = static_cast<size_t>((static_cast<uint64_t>(id) * 0x9e3779b97f4a7c15) >> 20) & mask_;
    for (; slots_[i] != kFree; i = (i + 1) & mask_) {
      if (slots_[i] == id) return false;
    }
    slots_[i] = id;
    return true;
  }

 private:
  static constexpr int64_t kFree = -1;
  size_t mask_;
  std::vector<int64_t> slots_;
};

void DrawDifferent(const CandidateProblem& p, const PhiloxKey& key, size_t row) {
  const int64_t *begin = p.excluded.Begin(row), *end = p.excluded.End(row);
  ClassSet met(p.n + static_cast<size_t>(end - begin));
  std::for_each(begin, end, [&](int64_t id) { met.Insert(id); });
  int64_t* ids = p.ids + row * p.n;
  BatchWords words;
  int64_t drawn[kDrawBatch];
  double log_p[kDrawBatch];
  size_t found = 0;
  for (size_t first = 0; found < p.n; first += kDrawBatch) {
    ActiveCandidates().words(key, {p.first_row + row, CandidatePurpose(0), first}, kDrawBatch, &words);
    p.proposal->Draw(words, kDrawBatch, drawn, log_p);
    for (size_t i = 0; i < kDrawBatch && found < p.n; ++i) {
      if (!met.Insert(drawn[i])) continue;
      ids[found] = drawn[i];
      p.log_q[row * p.n + found++] = log_p[i] + p.shift[row];
    }
  }
}

// Runs f(row, first, count) for batches of the draws of all rows.
template <class F>
void ForEachBatch(size_t rows, size_t n, F f) {
  const size_t batches = (n + kDrawBatch - 1) / kDrawBatch;
  ParallelBlocks(rows * batches, 1, kCost * static_cast<double>(rows * n), [&](size_t begin, size_t end) {
    for (size_t b = begin; b < end; ++b) {
      const size_t first = b % batches * kDrawBatch;
      f(Batch{b / batches, first, std::min(kDrawBatch, n - first)});
    }
  });
}

}  // namespace

void DrawCandidates(const CandidateProblem& p) {
  if (p.rows * p.n == 0) return;
  const PhiloxKey key = MakePhiloxKey(p.key);
  if (!p.unique) return ForEachBatch(p.rows, p.n, [&](const Batch& b) { DrawBatch(p, key, b); });
  ParallelBlocks(p.rows, 1, 2.0 * kCost * static_cast<double>(p.rows * p.n), [&](size_t begin, size_t end) {
    for (size_t row = begin; row < end; ++row) DrawDifferent(p, key, row);
  });
}

void CandidateLogP(const Proposal& proposal, const int64_t* ids, size_t count, double* log_p) {
  ForEachBatch(1, count, [&](const Batch& b) { proposal.LogP(ids + b.first, b.count, log_p + b.first); });
}

}  // namespace boltzmax
