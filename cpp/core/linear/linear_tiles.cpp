#include "linear_tiles.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "../../kernels/row_sum.hpp"
#include "../rows/segment_sums.hpp"
#include "../runtime/row_blocks.hpp"
#include "../stats/top.hpp"
#include "tile_rows.hpp"

namespace boltzmax {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

double Cost(const LogitTile& tile, const Scoring& scoring) {
  return (scoring.softcap == 0.0 ? 2.0 : 4.0) * EstimateNanoseconds(tile.rows * tile.n, tile.storage);
}

// 0 for a weight of 0, even if x is infinite; NaN stays NaN.
double Product(double weight, double x) { return weight == 0.0 && std::isinf(x) ? 0.0 : weight * x; }

double LogAddExp(double a, double b) {
  if (a == b) return a + 0x1.62e42fefa39efp-1;  // also of two infinities
  return std::max(a, b) + std::log1p(std::exp(-std::abs(a - b)));
}

template <class T>
Shares<T> SharesOf(const TileShares& shares, size_t r, double scale) {
  const char* q = shares.q == nullptr ? nullptr : shares.q + static_cast<ptrdiff_t>(r) * shares.q_stride;
  return {reinterpret_cast<const T*>(q), reinterpret_cast<const T*>(shares.w), static_cast<T>(scale * shares.sharp),
          static_cast<T>(scale * shares.even)};
}
template <class T>
Shares<T> From(const Shares<T>& shares, size_t begin) {
  return {shares.q == nullptr ? nullptr : shares.q + begin, shares.w == nullptr ? nullptr : shares.w + begin,
          shares.sharp, shares.even};
}

// ---- scores ----

template <class T>
class Scorer {
 public:
  explicit Scorer(const Scoring& scoring)
      : kernels_(TileKernelsOf<T>()),
        row_{nullptr, reinterpret_cast<const T*>(scoring.bias), 0,
             static_cast<T>(scoring.softcap == 0.0 ? 0.0 : 1.0 / scoring.softcap),
             static_cast<T>((scoring.softcap == 0.0 ? 1.0 : scoring.softcap) / scoring.temperature)},
        is_identity_(row_.bias == nullptr && row_.inverse_cap == T(0) && row_.factor == T(1)) {}

  // Turns n logits of the tile's classes from `begin` on into scores.
  void Run(T* x, size_t begin, size_t n) const {
    if (is_identity_) return;
    ScoreRow<T> row = row_;
    row.x = x;
    if (row.bias != nullptr) row.bias += begin;
    row.n = n;
    kernels_.score(row);
  }

 private:
  const TileKernels<T>& kernels_;
  ScoreRow<T> row_;
  bool is_identity_;
};

// ---- forward ----

// sum_c a_c (from - s_c) where the type of s cannot hold it.
template <class T>
double SharesInDouble(const T* s, size_t n, const Shares<T>& shares, double from) {
  double sum = 0.0;
  for (size_t i = 0; i < n; ++i) {
    const double q = shares.q == nullptr ? 0.0 : static_cast<double>(shares.q[i]);
    const double w = shares.w == nullptr ? 1.0 : static_cast<double>(shares.w[i]);
    sum += Product((static_cast<double>(shares.sharp) * q + static_cast<double>(shares.even)) * w,
                   from - static_cast<double>(s[i]));
  }
  return sum;
}

template <class T>
class Reader {
 public:
  Reader(const LogitTile& tile, const Scoring& scoring, const TileShares& shares, const RowTotals& totals,
         const RowTop& top)
      : tile_(tile),
        shares_(shares),
        totals_(totals),
        top_(top),
        kernels_(KernelsFor(tile.storage)),
        tile_kernels_(TileKernelsOf<T>()),
        scorer_(scoring),
        sums_((tile.n + kPiece - 1) / kPiece),
        search_(kernels_, top.k) {}

  void Run(size_t r) {
    T* row = RowOf<T>(tile_, r);
    for (size_t s = 0; s < sums_.size(); ++s) {
      const Row piece = Piece(row, s);
      scorer_.Run(row + s * kPiece, s * kPiece, piece.n);
      sums_[s] = kernels_.reduce(piece);
    }
    const LongSum sum =
        Combine(sums_, 1.0, true, kernels_, [&](size_t s) { return kernels_.reduce_rest(Piece(row, s), sums_[s]); });
    const bool is_first = tile_.first == 0;
    if (is_first) totals_.reference[r] = IsFinite(sum.total.max) ? sum.total.max : 0.0;
    const double reference = totals_.reference[r];
    const double lse = IsDegenerate(sum.total) ? LogSumExpOf(sum.total, sum.log_sum, 1.0)
                                               : ((sum.total.offset - reference) + sum.log_sum.hi) + sum.log_sum.lo;
    totals_.lse[r] = is_first ? lse : LogAddExp(totals_.lse[r], lse);
    if (totals_.label != nullptr) ReadLabelScore(row, r);
    if (shares_.Any()) AddShares(row, r);
    if (top_.k > 0) FindTop(row, r);
  }

 private:
  static constexpr size_t kPiece = kPieceBytes / sizeof(T);

  Row Piece(T* row, size_t s) const {
    const size_t begin = s * kPiece;
    return {row + begin, nullptr, nullptr, std::min(kPiece, tile_.n - begin), 1.0, false, false};
  }

  void ReadLabelScore(const T* row, size_t r) {
    const auto at = static_cast<size_t>(totals_.label[r]) - tile_.first;  // wraps below the tile
    if (at < tile_.n) totals_.own[r] = static_cast<double>(row[at]) - totals_.reference[r];
  }
  void AddShares(T* row, size_t r) {
    if (tile_.first == 0) {
      totals_.shared[r] = 0.0;
      if (shares_.q != nullptr) totals_.mass[r] = 0.0;
    }
    const Shares<T> shares = SharesOf<T>(shares_, r, 1.0);
    const double from = totals_.reference[r];
    const bool is_even = shares.q == nullptr && shares.w == nullptr;
    for (size_t s = 0; s < sums_.size(); ++s) {
      const Row piece = Piece(row, s);
      const T* scores = row + s * kPiece;
      const Shares<T> here = From(shares, s * kPiece);
      ShareSums sums = {0.0, 0.0};
      if (is_even) {
        sums.distance = shares_.even * kernels_.sum_distances(piece, from);
      } else {
        sums = tile_kernels_.sum_shares(scores, piece.n, here, static_cast<T>(from));
      }
      totals_.shared[r] += IsFinite(sums.distance) ? sums.distance : SharesInDouble(scores, piece.n, here, from);
      if (shares_.q != nullptr) totals_.mass[r] += sums.mass;
    }
  }
  void FindTop(T* row, size_t r) {
    const TopSearch::Part part = {sums_, [&](size_t s) { return Piece(row, s); }, kPiece, tile_.first};
    int64_t* id = top_.id + r * top_.k;
    double* score = top_.score + r * top_.k;
    if (tile_.first == 0) {
      search_.Begin(part);
      std::fill_n(id, top_.k, int64_t{-1});
    } else {
      search_.Resume(id, score, static_cast<size_t>(std::find(id, id + top_.k, -1) - id), part);
    }
    for (const Candidate& best : search_.Best()) {
      *id++ = best.id;
      *score++ = best.score;
    }
  }

  const LogitTile& tile_;
  const TileShares& shares_;
  const RowTotals& totals_;
  const RowTop& top_;
  const StorageKernels& kernels_;
  const TileKernels<T>& tile_kernels_;
  Scorer<T> scorer_;
  std::vector<RowSum> sums_;
  TopSearch search_;
};

// ---- backward ----

template <class T>
class Writer {
 public:
  Writer(const LogitTile& tile, const Scoring& scoring, const TileShares& shares, const RowTotals& totals,
         const LossTerms& terms, const double* scale)
      : tile_(tile),
        scorer_(scoring),
        shares_(shares),
        totals_(totals),
        terms_(terms),
        scale_(scale),
        kernels_(TileKernelsOf<T>()),
        cap_ratio_(scoring.softcap == 0.0 ? 0.0 : scoring.temperature / scoring.softcap) {}

  void Run(size_t r) const {
    const double lse = totals_.reference[r] + totals_.lse[r], scale = scale_[r];
    const double others = (terms_.shares ? totals_.mass[r] : 0.0) + 2.0 * terms_.z_loss * lse;
    const double hard = terms_.hard == nullptr ? 0.0 : terms_.hard[r];
    const double gain = IsFinite(lse) ? scale * (hard + others) : kNan;
    T* s = RowOf<T>(tile_, r);
    if (!tile_.scored) scorer_.Run(s, 0, tile_.n);
    SlopeRow<T> row = {s, tile_.n, {}, T(0), static_cast<T>(cap_ratio_), SharesOf<T>(shares_, r, scale)};
    SetUnit(r, gain, &row);
    const size_t at = terms_.hard == nullptr ? tile_.n : static_cast<size_t>(totals_.label[r]) - tile_.first;
    if (at >= tile_.n) return kernels_.slope(row);
    // Without a cap, a score may be infinite.
    const double ratio = cap_ratio_ == 0.0 ? 0.0 : cap_ratio_ * static_cast<double>(s[at]);
    kernels_.slope(row);
    // gain p - scale hard, where the two nearly cancel.
    const double share = shares_.even * (row.shares.w == nullptr ? 1.0 : static_cast<double>(row.shares.w[at]));
    const double slope = gain * std::expm1(totals_.own[r] - totals_.lse[r]) + scale * (others - share);
    s[at] = static_cast<T>(slope * (1.0 - ratio * ratio));
  }

 private:
  // exp(s - lse) = exp(s) 2^-k exp(k ln 2 - lse); or exp(s - t) exp(t - lse) with t = lse rounded, where exp takes the
  // difference first. The last factor is near 1, and is multiplied into the gain.
  void SetUnit(size_t r, double gain, SlopeRow<T>* row) const {
    using C = ExpConstants<double>;
    const double lse = totals_.reference[r] + totals_.lse[r];
    const double rounded = static_cast<double>(static_cast<T>(lse));
    const bool is_direct = std::abs(lse) <= static_cast<double>(ExpConstants<T>::kDirectLimit);
    const double offset = is_direct || !IsFinite(rounded) ? 0.0 : rounded;
    const double k = is_direct ? std::nearbyint(lse * C::kLog2e) : 0.0;
    row->unit = {rounded, offset, k, 0.0, 0.0, 0.0};
    const double from_lse = (((offset - totals_.reference[r]) + k * C::kLn2Hi) - totals_.lse[r]) + k * C::kLn2Lo;
    row->gain = static_cast<T>(gain * std::exp(from_lse));
  }

  const LogitTile& tile_;
  Scorer<T> scorer_;
  const TileShares& shares_;
  const RowTotals& totals_;
  const LossTerms& terms_;
  const double* scale_;
  const TileKernels<T>& kernels_;
  double cap_ratio_;
};

}  // namespace

void AddTile(const LogitTile& tile, const Scoring& scoring, const TileShares& shares, const RowTotals& totals,
             const RowTop& top) {
  WithType(tile.storage, [&](auto zero) {
    ForEachRowBlock(tile.rows, tile.n, Cost(tile, scoring), [&](size_t begin, size_t end) {
      Reader<decltype(zero)> reader(tile, scoring, shares, totals, top);
      for (size_t r = begin; r < end; ++r) reader.Run(r);
    });
  });
}

void FinishTop(size_t rows, const RowTotals& totals, const RowTop& top) {
  for (size_t r = 0; r < rows; ++r) {
    int64_t* const id = top.id + r * top.k;
    double* const score = top.score + r * top.k;
    const size_t found = static_cast<size_t>(std::find(id, id + top.k, -1) - id);
    std::vector<int64_t> taken(id, id + found);
    std::sort(taken.begin(), taken.end());
    int64_t next = 0;
    auto ahead = taken.begin();
    for (size_t j = found; j < top.k; ++j, ++next) {
      for (; ahead != taken.end() && *ahead == next; ++ahead) ++next;
      id[j] = next;
      score[j] = -kInfinity;
    }
    for (size_t j = 0; j < top.k; ++j) score[j] = (score[j] - totals.reference[r]) - totals.lse[r];
  }
}

void Losses(size_t rows, const RowTotals& totals, const LossTerms& terms, double* losses) {
  for (size_t r = 0; r < rows; ++r) {
    double loss = terms.hard == nullptr ? 0.0 : Product(terms.hard[r], totals.lse[r] - totals.own[r]);
    if (terms.shares) loss += Product(totals.mass[r], totals.lse[r]) + totals.shared[r];
    const double lse = totals.reference[r] + totals.lse[r];
    losses[r] = terms.z_loss == 0.0 ? loss : loss + terms.z_loss * lse * lse;
  }
}

void Slopes(const LogitTile& tile, const Scoring& scoring, const TileShares& shares, const RowTotals& totals,
            const LossTerms& terms, const double* scale, double* column_sums) {
  WithType(tile.storage, [&](auto zero) {
    const Writer<decltype(zero)> writer(tile, scoring, shares, totals, terms, scale);
    ForEachRowAndSum<decltype(zero)>(tile, Cost(tile, scoring), column_sums, [&](size_t r) { writer.Run(r); });
  });
}

}  // namespace boltzmax
