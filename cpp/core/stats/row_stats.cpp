#include "row_stats.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <optional>
#include <vector>

#include "../../kernels/row_sum.hpp"
#include "../rows/segment_sums.hpp"
#include "../runtime/convert.hpp"
#include "../runtime/row_blocks.hpp"
#include "top.hpp"

namespace boltzmax {

namespace {

constexpr size_t kPieceBytes = 32768;

// Results of some rows in double, as they are computed, and the targets of these rows. They are in memory that the
// thread keeps, unless k is large: as much for all rows would have to be fetched from the system, page by page.
class Block {
 public:
  // The rows that are computed together.
  static size_t Rows(const RowStatsProblem& p) { return std::max<size_t>(1, kNumbers / (kColumns + p.k)); }

  Block(const RowStatsProblem& p, size_t begin, size_t end) : first(begin), rows(end - begin), p_(p) {
    thread_local Scratch kept;
    const size_t count = (kColumns + p.k) * rows;
    if (count > kNumbers) many_.resize(count);
    lse = many_.empty() ? reinterpret_cast<double*>(kept.Get(kNumbers * sizeof(double))) : many_.data();
    energy_ = lse + rows;
    entropy = energy_ + rows;
    target_log_prob = entropy + rows;
    auto* classes = reinterpret_cast<int64_t*>(target_log_prob + rows);
    top_log_prob = target_log_prob + 2 * rows;
    if (p.target.at == nullptr) return;
    target = p.target.Plain() == nullptr ? classes : p.target.Plain() + first;
    if (target == classes) ForEachInteger(p.target, begin, end, [&](size_t r, int64_t t) { classes[r - first] = t; });
  }

  // Stores the numbers as the type of the results.
  void Deliver() const {
    for (size_t r = 0; r < rows; ++r) energy_[r] = -p_.temperature * lse[r];
    const GatherFn convert = Gather(DType::kFloat64, p_.numbers);
    const size_t item = ItemSize(p_.numbers);
    const auto store = [&](const double* numbers, size_t each, char* column) {
      if (column == nullptr) return;
      convert(reinterpret_cast<const char*>(numbers), sizeof(double), each * rows, column + each * first * item);
    };
    store(lse, 1, p_.lse);
    store(energy_, 1, p_.energy);
    store(entropy, 1, p_.entropy);
    store(target_log_prob, 1, p_.target_log_prob);
    store(top_log_prob, p_.k, p_.top_log_prob);
  }

  size_t first, rows;
  const int64_t* target = nullptr;
  double *lse, *entropy, *target_log_prob, *top_log_prob;

 private:
  static constexpr size_t kNumbers = 4096, kColumns = 5;

  const RowStatsProblem& p_;
  std::vector<double> many_;
  double* energy_;
};

class Worker {
 public:
  explicit Worker(const RowStatsProblem& problem)
      : p_(problem),
        kernels_(KernelsFor(problem.storage)),
        item_(ItemSize(problem.storage)),
        piece_(kPieceBytes / item_),
        load_(Gather(problem.storage, DType::kFloat64)),
        sums_((problem.n + piece_ - 1) / piece_),
        means_(sums_.size()),
        top_(kernels_, problem.k) {}

  // Row `at` of a block.
  void Run(const Block& block, size_t at) {
    const size_t r = block.first + at;
    const bool has_target = block.target != nullptr;
    const double at_target = has_target ? Logit(r, block.target[at]) : 0.0;
    size_t rank = 1;
    for (size_t s = 0; s < sums_.size(); ++s) {
      const Row piece = Piece(r, s);
      sums_[s] = p_.entropy == nullptr ? kernels_.reduce(piece) : kernels_.reduce_mean(piece, &means_[s]);
      if (has_target && sums_[s].max > at_target) rank += kernels_.count_above(piece, at_target);
    }
    const LongSum sum = Combine(sums_, p_.temperature, true, kernels_,
                                [&](size_t s) { return kernels_.reduce_rest(Piece(r, s), sums_[s]); });
    block.lse[at] = LogSumExpOf(sum.total, sum.log_sum, p_.temperature);
    const auto log_prob = [&](double logit) {
      if (IsDegenerate(sum.total)) return std::nan("");
      return ((logit - sum.total.offset) / p_.temperature - sum.log_sum.hi) - sum.log_sum.lo;
    };
    if (p_.entropy != nullptr) block.entropy[at] = IsDegenerate(sum.total) ? std::nan("") : Entropy(sum);
    if (has_target) {
      block.target_log_prob[at] = log_prob(at_target);
      p_.target_rank[r] = static_cast<int64_t>(rank);
    }
    if (p_.k > 0) {
      top_.Begin({sums_, [&](size_t s) { return Piece(r, s); }, piece_, 0});
      StoreTop(r, block.top_log_prob + at * p_.k, log_prob);
    }
  }

 private:
  Row Piece(size_t r, size_t s) const {
    const size_t begin = s * piece_;
    return {p_.logits + static_cast<ptrdiff_t>(r) * p_.stride + static_cast<ptrdiff_t>(begin * item_),
            nullptr,
            nullptr,
            std::min(piece_, p_.n - begin),
            p_.temperature,
            true,
            false};
  }
  double Load(const void* x) const {
    double value;
    load_(static_cast<const char*>(x), 0, 1, &value);
    return value;
  }
  double Logit(size_t r, int64_t c) const {
    return Load(p_.logits + static_cast<ptrdiff_t>(r) * p_.stride + c * static_cast<ptrdiff_t>(item_));
  }

  // lse less the mean score. Both are nearly the maximum if the entropy is small, so the maximum is never added to
  // them.
  double Entropy(const LongSum& sum) const {
    const double to_max = sum.log_sum.hi - (sum.total.max - sum.total.offset) / p_.temperature;
    return std::max(0.0, (to_max - MeanBelowMax(sum.total) / p_.temperature) + sum.log_sum.lo);
  }
  // The mean of score - max over the row, from the means of its pieces.
  double MeanBelowMax(const RowSum& total) const {
    double weighted = 0.0, weights = 0.0;
    for (size_t s = 0; s < sums_.size(); ++s) {
      if (!(sums_[s].hi > 0.0)) continue;
      const double weight = sums_[s].hi * UnitRatio(sums_[s], total, p_.temperature);
      weights += weight;
      weighted += weight * ((sums_[s].max - total.max) + means_[s]);
    }
    return weighted / weights;
  }

  // Elements of -inf or NaN exceed nothing: they fill the remaining ranks, in order of their index.
  void Fill(size_t r, std::vector<Candidate>& best) {
    if (best.size() == p_.k) return;
    found_.clear();
    for (const Candidate& candidate : best) found_.push_back(candidate.id);
    std::sort(found_.begin(), found_.end());
    auto next = found_.begin();
    for (int64_t id = 0; best.size() < p_.k; ++id) {
      if (next != found_.end() && *next == id) {
        ++next;
      } else {
        best.push_back({Logit(r, id), id});
      }
    }
  }

  template <class LogProb>
  void StoreTop(size_t r, double* log_probs, LogProb log_prob) {
    std::vector<Candidate>& best = top_.Best();
    Fill(r, best);
    for (size_t j = 0; j < p_.k; ++j) {
      p_.top_id[r * p_.k + j] = best[j].id;
      log_probs[j] = log_prob(best[j].score);
    }
  }

  const RowStatsProblem& p_;
  const StorageKernels& kernels_;
  size_t item_, piece_;
  GatherFn load_;
  std::vector<RowSum> sums_;
  std::vector<double> means_;
  std::vector<int64_t> found_;  // the ids of the top, in their order
  TopSearch top_;
};

thread_local Scratch kept_terms;

// Short rows of which only the results of panels are wanted.
void RunShortRows(const RowStatsProblem& p, const LossKernels& kernels, const Block& block) {
  kernels.row_stats_rows({p.logits + static_cast<ptrdiff_t>(block.first) * p.stride, p.stride, block.rows, p.n,
                          p.temperature, block.target, block.lse, p.k == 0 ? nullptr : p.top_id + block.first,
                          block.top_log_prob, block.target_log_prob,
                          block.target == nullptr ? nullptr : p.target_rank + block.first,
                          kept_terms.Get(2 * kKept * sizeof(double)), p.rows * p.n * ItemSize(p.storage) > kFarBytes});
}

// The largest element of a panel's row is searched for in all of it, of others in pieces.
bool ByPanels(const RowStatsProblem& p) {
  return p.n <= std::min(LossKernelsFor(p.storage).most, kKept) && p.k <= 1 && p.entropy == nullptr;
}

}  // namespace

double EstimateNanoseconds(const RowStatsProblem& problem) {
  return EstimateNanoseconds(problem.rows * problem.n, problem.storage) +
         (ByPanels(problem) ? 5.0 : 50.0) * static_cast<double>(problem.rows);
}

bool Run(const RowStatsProblem& problem) {
  if (problem.rows == 0 || problem.n == 0) return true;
  const LossKernels& kernels = LossKernelsFor(problem.storage);
  const bool by_panels = ByPanels(problem);
  const size_t most = Block::Rows(problem);
  std::atomic<bool> in_range{true};
  ForEachRowBlock(problem.rows, problem.n, EstimateNanoseconds(problem), [&](size_t begin, size_t end) {
    std::optional<Worker> worker;
    if (!by_panels) worker.emplace(problem);
    for (size_t first = begin; first < end && in_range.load(std::memory_order_relaxed); first += most) {
      const size_t stop = std::min(end, first + most);
      if (problem.target.at != nullptr && !AreClasses(problem.target, first, stop, problem.n)) {
        in_range.store(false, std::memory_order_relaxed);
        return;
      }
      const Block block(problem, first, stop);
      if (by_panels) RunShortRows(problem, kernels, block);
      for (size_t at = 0; worker && at < block.rows; ++at) worker->Run(block, at);
      block.Deliver();
    }
  });
  return in_range;
}

}  // namespace boltzmax
