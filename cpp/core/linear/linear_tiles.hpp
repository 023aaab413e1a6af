// Losses and queries of a linear layer whose logits come tile by tile: everything but the matrix products. A tile's
// logits become scores; these are added to the totals of earlier tiles for the same rows; finally, gradients replace
// them.
#pragma once

#include <cstdint>

#include "../runtime/dispatch.hpp"

namespace boltzmax {

// Some rows by n classes from `first` on, float or double, row after row: logits or, if `scored`, scores.
struct LogitTile {
  DType storage;
  char* x;
  size_t rows, n, first;
  bool scored;
};

// A score is softcap * tanh((logit + bias) / softcap) / temperature; without a cap (softcap 0), (logit + bias) /
// temperature.
struct Scoring {
  const char* bias;  // of the tile's classes, in its storage, or null
  double temperature, softcap;
};

// The share of class c in a target, besides that of its label: a_c = (sharp q_c + even) w_c, for the tile's classes and
// in its storage type. A missing w is 1, a missing q is 0.
struct TileShares {
  const char* q;  // rows of n
  ptrdiff_t q_stride;
  const char* w;
  double sharp, even;

  bool Any() const { return q != nullptr || even != 0.0; }
};

// Totals of each row, as distances from a score near its largest, the reference: so the digits that two large scores
// have in common are not lost. Null for totals that nobody needs.
struct RowTotals {
  const int64_t* label;
  double* reference;
  double* lse;     // logsumexp(s) - reference
  double* own;     // s_label - reference
  double* shared;  // sum_c a_c (reference - s_c)
  double* mass;    // sum_c a_c: added up if there are q, otherwise given
};

// The k largest scores of each row: `score` in decreasing order; those found so far have an id, the others -1.
struct RowTop {
  size_t k;
  int64_t* id;
  double* score;
};

// Turns a tile's logits into scores, and adds them to the totals. A tile whose first class is 0 starts new totals.
void AddTile(const LogitTile& tile, const Scoring& scoring, const TileShares& shares, const RowTotals& totals,
             const RowTop& top);

// Gives empty ranks to the first classes without a rank, whose scores are -inf or NaN; then log_prob = score - lse.
void FinishTop(size_t rows, const RowTotals& totals, const RowTop& top);

// hard (lse - s_label) + sum_c a_c (lse - s_c) + z_loss lse^2 for every row. A term of weight 0 is 0, even if it is
// infinite; NaN stays NaN.
struct LossTerms {
  const double* hard;  // null without labels
  bool shares;
  double z_loss;
};
void Losses(size_t rows, const RowTotals& totals, const LossTerms& terms, double* losses);

// Replaces a tile by the gradients by logits of these losses, each times its scale, and adds their sums over rows to
// `column_sums`, unless that is null. Rows whose loss is not finite may have gradients of NaN.
void Slopes(const LogitTile& tile, const Scoring& scoring, const TileShares& shares, const RowTotals& totals,
            const LossTerms& terms, const double* scale, double* column_sums);

}  // namespace boltzmax
