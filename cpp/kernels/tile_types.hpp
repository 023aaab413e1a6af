// What the kernels of a linear layer's tiles and their callers say to each other. A tile is a matrix of logits, some rows
// by some classes; a score is what becomes of a logit.
#pragma once

#include "types.hpp"

namespace boltzmax {

// Scores from logits x, in place: factor * (x + bias), or factor * tanh(inverse_cap * (x + bias)) unless that is 0.
template <class T>
struct ScoreRow {
  T* x;
  const T* bias;  // or null
  size_t n;
  T inverse_cap, factor;
};

// What a target gives to class c beside its label: a_c = (sharp q_c + even) w_c. A missing q is 0, a missing w is 1.
template <class T>
struct Shares {
  const T* q;
  const T* w;
  T sharp, even;
};

// Gradients by logits from scores s, in place: (gain exp(s - lse) - a_c) (1 - (cap_ratio s)^2). `unit` has the offset and
// the exponent of its power of two, near that of exp(lse); what lies between them is a part of `gain`.
template <class T>
struct SlopeRow {
  T* s;
  size_t n;
  RowSum unit;
  T gain, cap_ratio;
  Shares<T> shares;
};

// A sum over classes of shares times distances, and the sum of the shares.
struct ShareSums {
  double distance, mass;
};

template <class T>
struct TileKernels {
  void (*score)(const ScoreRow<T>&);
  // sum_c a_c (from - s_c) and sum_c a_c. A class without a share adds nothing, however far away.
  ShareSums (*sum_shares)(const T* s, size_t n, const Shares<T>&, T from);
  void (*slope)(const SlopeRow<T>&);
  // sums_c += rows_0c + rows_1c + ... for `count` rows, `stride` elements apart
  void (*sum_columns)(const T* rows, size_t stride, size_t count, size_t n, double* sums);
};

struct TileTable {
  TileKernels<float> f32;
  TileKernels<double> f64;
};

}  // namespace boltzmax
