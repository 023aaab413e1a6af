// Tiles of a linear layer: the structs that kernels and their callers share. A tile is a matrix of logits, some rows by
// some classes; a score is a logit with its bias, capped, over the temperature.
#pragma once

#include "types.hpp"

namespace boltzmax {

// Turns logits x into scores in place: factor * (x + bias); or, if inverse_cap is not 0, factor * tanh(inverse_cap * (x
// + bias)).
template <class T>
struct ScoreRow {
  T* x;
  const T* bias;  // or null
  size_t n;
  T inverse_cap, factor;
};

// The share of class c in a target, besides that of its label: a_c = (sharp q_c + even) w_c. If q is null it counts as
// 0; if w is null, as 1.
template <class T>
struct Shares {
  const T* q;
  const T* w;
  T sharp, even;
};

// Turns scores s into gradients by logits in place: (gain exp(s - lse) - a_c) (1 - (cap_ratio s)^2). `unit` has the
// offset and the exponent of its power of two, near that of exp(lse); the factor between them is part of `gain`.
template <class T>
struct SlopeRow {
  T* s;
  size_t n;
  RowSum unit;
  T gain, cap_ratio;
  Shares<T> shares;
};

// Replaces scores s by gain exp(s - offset) + column_gain_c exp(s - column_offset_c): the gradients where columns have a
// softmax, too. No score is much larger than an offset.
template <class T>
struct PairRow {
  T* s;
  size_t n;
  T offset, gain;
  const T* column_offset;
  const T* column_gain;
};

// The sum over classes of shares times distances, and the sum of the shares.
struct ShareSums {
  double distance, mass;
};

template <class T>
struct TileKernels {
  void (*score)(const ScoreRow<T>&);
  // sum_c a_c (from - s_c) and sum_c a_c. A class without a share adds nothing, even at an infinite distance.
  ShareSums (*sum_shares)(const T* s, size_t n, const Shares<T>&, T from);
  void (*slope)(const SlopeRow<T>&);
  // sums_c += rows_0c + rows_1c + ... for `count` rows, `stride` elements apart
  void (*sum_columns)(const T* rows, size_t stride, size_t count, size_t n, double* sums);
  // max_c = max(max_c, rows_0c, rows_1c, ...), NaN ignored; sums_c += exp(rows_0c - offset_c) + ..., where no row is much
  // larger than the offset
  void (*max_of_columns)(const T* rows, size_t stride, size_t count, size_t n, T* max);
  void (*sum_exp_of_columns)(const T* rows, size_t stride, size_t count, size_t n, const T* offset, double* sums);
  void (*pair_slope)(const PairRow<T>&);
};

struct TileTable {
  TileKernels<float> f32;
  TileKernels<double> f64;
};

}  // namespace boltzmax
