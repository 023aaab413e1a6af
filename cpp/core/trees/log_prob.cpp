// The log-probabilities of targets.
#include "inference.hpp"
#include "layer_rows.hpp"

namespace boltzmax {

namespace {

// Collects the scores of several rows: the logistic function of a few is a chain of dependent instructions that leaves
// the processor idle.
template <class T, class Out>
class LogisticRows {
 public:
  static constexpr size_t kMostUnits = 128;

  void Add(PathScorer<T>& scorer, const T* h, Out* out) {
    if (units_ + scorer.Count() > kMostUnits || rows_ == kMostRows) Flush();
    scorer.ComputeSignedScores(h, scores_ + units_);
    units_ += scorer.Count();
    ends_[rows_] = units_;
    outs_[rows_++] = out;
  }
  void Flush() {
    Units<double>().log_sigmoid(scores_, units_, log_p_, unused_);
    for (size_t i = 0, j = 0; i < rows_; ++i) {
      double total = 0.0;
      for (; j < ends_[i]; ++j) total += log_p_[j];
      *outs_[i] = static_cast<Out>(total);
    }
    units_ = rows_ = 0;
  }

 private:
  static constexpr size_t kMostRows = 32;
  double scores_[kMostUnits], log_p_[kMostUnits], unused_[kMostUnits];
  size_t ends_[kMostRows];
  Out* outs_[kMostRows];
  size_t units_ = 0, rows_ = 0;
};

}  // namespace

template <class T, class Out>
void LogProb(const Layer<T>& layer, const Hidden<T>& hidden, const int64_t* target, Out* out) {
  const double units = TypicalPathLength(layer.tree);
  ForEachBlockOfRows(layer, hidden.rows, units, [&](PathScorer<T>& scorer, size_t begin, size_t end) {
    LogisticRows<T, Out> rows;
    for (size_t r = begin; r < end; ++r) {
      const T* h = hidden.x + r * layer.features;
      scorer.FindPath(target[r]);
      if (scorer.IsLogistic() && scorer.Count() <= rows.kMostUnits) {
        rows.Add(scorer, h, out + r);
      } else {
        out[r] = static_cast<Out>(-scorer.Loss(h));
      }
    }
    rows.Flush();
  });
}

template void LogProb<float, float>(const Layer<float>&, const Hidden<float>&, const int64_t*, float*);
template void LogProb<float, double>(const Layer<float>&, const Hidden<float>&, const int64_t*, double*);
template void LogProb<double, double>(const Layer<double>&, const Hidden<double>&, const int64_t*, double*);

}  // namespace boltzmax
