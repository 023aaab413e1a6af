#include "batch_loss.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "../runtime/row_blocks.hpp"
#include "cross_entropy.hpp"

namespace boltzmax {

namespace {

// Rows are processed in chunks of at most this many, whose sums are added in order: a loss has the same bits for any
// number of threads.
constexpr size_t kMostRows = 4096;

struct BatchPlan {
  BatchLoss p;
  bool ready;    // whether the targets are stored as the kernels read them
  size_t chunk;  // rows
  double scale;  // the derivative of the reduced loss by that of a row of weight 1

  size_t Chunks() const { return (p.rows + chunk - 1) / chunk; }
  double Weight(int64_t target) const { return p.class_weight == nullptr ? 1.0 : p.class_weight[target]; }
};

// Values of rows [begin, end) of a chunk.
struct Chunk {
  size_t rows;
  const int64_t* target;
  int64_t* copy;  // buffer for targets that are not ready
  double *lse, *log_prob, *distance, *gain, *lse_gain, *add, *target_gain;

  explicit Chunk(size_t count) : rows(count) {
    thread_local Scratch memory;
    auto* numbers = reinterpret_cast<double*>(memory.Get(8 * kMostRows * sizeof(double)));
    target = copy = reinterpret_cast<int64_t*>(numbers);
    lse = numbers + kMostRows;
    log_prob = numbers + 2 * kMostRows;
    distance = numbers + 3 * kMostRows;
    gain = numbers + 4 * kMostRows;
    lse_gain = numbers + 5 * kMostRows;
    add = numbers + 6 * kMostRows;
    target_gain = numbers + 7 * kMostRows;
  }
};

// Whether all targets are classes or ignored, how many count, and the divisor of a mean.
struct Targets {
  bool in_range = true;
  size_t counted = 0;
  double total_weight = 0.0;
};
// Of rows [begin, end).
Targets SummarizeTargets(const BatchLoss& p, size_t begin, size_t end) {
  const uint64_t n = p.n;
  const int64_t ignored = p.ignored;
  Targets targets = {AreClasses(p.target, begin, end, p.n), end - begin, 0.0};
  if (!targets.in_range || static_cast<uint64_t>(ignored) < n) {
    targets = {true, 0, 0.0};
    ForEachInteger(p.target, begin, end, [&](size_t, int64_t t) {
      targets.in_range &= (static_cast<uint64_t>(t) < n) | (t == ignored);
      targets.counted += t != ignored;
    });
  }
  if (!targets.in_range || p.class_weight == nullptr || p.focal) {
    targets.total_weight = static_cast<double>(targets.counted);
    return targets;
  }
  ForEachInteger(p.target, begin, end,
                 [&](size_t, int64_t t) { targets.total_weight += t != ignored ? p.class_weight[t] : 0.0; });
  return targets;
}
// Of all rows. They are read before anything is written; the sums of blocks are added in order.
Targets SummarizeTargets(const BatchLoss& p) {
  constexpr size_t kBlock = 8192;
  if (p.rows <= kBlock) return SummarizeTargets(p, 0, p.rows);
  std::vector<Targets> blocks((p.rows + kBlock - 1) / kBlock);
  // This is short, but what follows needs the threads awake.
  ParallelFor(blocks.size(), EstimateNanoseconds(p),
              [&](size_t i) { blocks[i] = SummarizeTargets(p, i * kBlock, std::min(p.rows, (i + 1) * kBlock)); });
  Targets all;
  for (const Targets& block : blocks) {
    all.in_range &= block.in_range;
    all.counted += block.counted;
    all.total_weight += block.total_weight;
  }
  return all;
}

void ClearGradient(const BatchLoss& p) {
  if (p.gradient == nullptr) return;
  for (size_t r = 0; r < p.rows; ++r) {
    std::memset(p.gradient + static_cast<ptrdiff_t>(r) * p.gradient_stride, 0, p.n * ItemSize(p.storage));
  }
}

// An infinite loss of weight 0 counts as 0.
double Product(double weight, double loss) { return weight == 0.0 && std::isinf(loss) ? 0.0 : weight * loss; }

// (1 - p)^gamma (-log p), and its derivative by -log p.
struct Focus {
  double loss, slope;

  Focus(double log_prob, double gamma) {
    const double p = std::exp(log_prob), miss = -std::expm1(log_prob);
    const double power = Power(miss, gamma), below = gamma == 2.0 ? miss : Power(miss, gamma - 1.0);
    loss = power == 0.0 ? 0.0 : -power * log_prob;
    // The product tends to 0 both at p = 0 and at p = 1.
    slope = power + (miss > 0.0 && p > 0.0 ? gamma * p * below * -log_prob : 0.0);
  }

 private:
  static double Power(double x, double exponent) { return exponent == 2.0 ? x * x : std::pow(x, exponent); }
};

// In an order that the compiler can spread over the lanes of a vector.
double SumOf(const double* x, size_t n) {
  constexpr size_t kLanes = 8;
  double lanes[kLanes] = {};
  size_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    for (size_t k = 0; k < kLanes; ++k) lanes[k] += x[i + k];
  }
  for (size_t k = 0; i + k < n; ++k) lanes[k] += x[i + k];
  return ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]));
}

// A chunk of a batch, in the kernels' form. Gains are those of all rows unless the chunk sets its own.
class ChunkRun {
 public:
  ChunkRun(const BatchPlan& plan, size_t begin, size_t end)
      : plan_(plan), p_(plan.p), begin_(begin), chunk_(end - begin) {
    if (plan.ready) {
      chunk_.target = p_.target.Plain() + begin;
    } else {
      ForEachInteger(p_.target, begin, end,
                     [&](size_t r, int64_t t) { chunk_.copy[r - begin] = t == p_.ignored ? -1 : t; });
    }
  }

  // The sum of the chunk's losses.
  double Loss() {
    double* losses = chunk_.log_prob;
    if (p_.focal) {
      Run(nullptr, 0);
      for (size_t r = 0; r < chunk_.rows; ++r) losses[r] = Focal(r);
      if (p_.gradient != nullptr) RunKeeping(losses);
    } else {
      SetGains();
      Run(p_.gradient, p_.class_weight == nullptr ? 0 : 1);
      const double hard = 1.0 - p_.smoothing;
      if (p_.class_weight == nullptr && p_.smoothing == 0.0 && p_.z_loss == 0.0) {
        if (p_.losses == nullptr) return 0.0 - SumOf(losses, chunk_.rows);
        for (size_t r = 0; r < chunk_.rows; ++r) losses[r] = 0.0 - losses[r];
      } else {
        for (size_t r = 0; r < chunk_.rows; ++r) losses[r] = CrossEntropy(r, hard);
      }
    }
    if (p_.losses != nullptr) std::copy_n(losses, chunk_.rows, p_.losses + begin_);
    return SumOf(losses, chunk_.rows);
  }

 private:
  // The focal loss of a row with a known log p.
  double Focal(size_t r) {
    const int64_t t = chunk_.target[r];
    if (t < 0) return chunk_.gain[r] = chunk_.target_gain[r] = 0.0;
    const Focus focus(chunk_.log_prob[r], p_.gamma);
    chunk_.gain[r] = chunk_.target_gain[r] = plan_.scale * plan_.Weight(t) * focus.slope;
    return Product(plan_.Weight(t), focus.loss);
  }
  double CrossEntropy(size_t r, double hard) {
    const int64_t t = chunk_.target[r];
    if (t < 0) return 0.0;
    const double weight = plan_.Weight(t);
    double loss = Product(weight * hard + p_.smoothing, -chunk_.log_prob[r]);
    if (p_.smoothing != 0.0 && loss != std::numeric_limits<double>::infinity()) {
      loss += p_.smoothing / p_.temperature * chunk_.distance[r];
    }
    return p_.z_loss == 0.0 ? loss : loss + p_.z_loss * chunk_.lse[r] * chunk_.lse[r];
  }

  // Without class weights, one value of each serves all rows. With them there is no smoothing.
  void SetGains() {
    const double hard = plan_.scale * (1.0 - p_.smoothing), soft = plan_.scale * p_.smoothing;
    chunk_.gain[0] = hard + soft;
    chunk_.target_gain[0] = hard;
    for (size_t r = 0; p_.class_weight != nullptr && r < chunk_.rows; ++r) {
      const int64_t t = chunk_.target[r];
      chunk_.gain[r] = chunk_.target_gain[r] = t < 0 ? 0.0 : plan_.scale * plan_.Weight(t);
    }
    const size_t count = p_.class_weight == nullptr ? 1 : chunk_.rows;
    std::fill_n(chunk_.lse_gain, count, plan_.scale * 2.0 * p_.z_loss);
    std::fill_n(chunk_.add, count, -soft / static_cast<double>(p_.n));
  }
  // Computes the gradient where the losses have replaced the log-probabilities, and restores them.
  void RunKeeping(const double* losses) {
    std::copy_n(losses, chunk_.rows, chunk_.distance);
    std::fill_n(chunk_.lse_gain, chunk_.rows, 0.0);
    std::fill_n(chunk_.add, chunk_.rows, 0.0);
    Run(p_.gradient, 1);
    std::copy_n(chunk_.distance, chunk_.rows, chunk_.log_prob);
  }
  void Run(char* gradient, size_t step) {
    const auto first = static_cast<ptrdiff_t>(begin_);
    RunCrossEntropyRows(
        {p_.storage, p_.logits + first * p_.logits_stride, p_.logits_stride, chunk_.rows, p_.n, chunk_.target,
         p_.temperature, chunk_.lse, chunk_.log_prob, p_.smoothing == 0.0 ? nullptr : chunk_.distance,
         gradient == nullptr ? nullptr : gradient + first * p_.gradient_stride, p_.gradient_stride, chunk_.gain,
         chunk_.lse_gain, chunk_.add, chunk_.target_gain, step, p_.rows},
        0, chunk_.rows);
  }

  const BatchPlan& plan_;
  const BatchLoss& p_;
  size_t begin_;
  Chunk chunk_;
};

}  // namespace

double EstimateNanoseconds(const BatchLoss& problem) {
  return 2.0 * EstimateNanoseconds(problem.rows, problem.n, problem.storage) +
         (problem.focal ? 40.0 : 0.0) * static_cast<double>(problem.rows);
}

std::optional<double> Run(const BatchLoss& problem) {
  const Targets targets = SummarizeTargets(problem);
  if (!targets.in_range) return std::nullopt;
  const double divisor = problem.mean ? targets.total_weight : 1.0;
  if (divisor == 0.0 && problem.zero_if_empty) {
    ClearGradient(problem);
    return 0.0;
  }
  constexpr size_t kPanel = 16;
  const size_t rows = std::clamp<size_t>(kTaskElements / std::max<size_t>(problem.n, 1), 1, kMostRows);
  const bool ready = problem.target.Plain() != nullptr && targets.counted == problem.rows;
  const BatchPlan plan = {problem, ready, rows < kPanel ? rows : rows / kPanel * kPanel,
                          1.0 / divisor / problem.temperature};
  if (plan.Chunks() == 1) return ChunkRun(plan, 0, problem.rows).Loss() / divisor;
  std::vector<double> sums(plan.Chunks());
  ParallelFor(sums.size(), EstimateNanoseconds(problem), [&](size_t i) {
    const size_t begin = i * plan.chunk;
    sums[i] = ChunkRun(plan, begin, std::min(problem.rows, begin + plan.chunk)).Loss();
  });
  return SumOf(sums.data(), sums.size()) / divisor;
}

}  // namespace boltzmax
