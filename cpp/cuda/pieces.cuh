// Rows that are too long to stay on the chip, or of any strides: read twice.
//
//     PiecesOfRows   a block sums a piece of a row,
//     JoinPieces     another joins the sums,
//     MapPieces      and others map the pieces.
#pragma once

#include "rows.cuh"

namespace boltzmax::cuda {

inline constexpr int kPieceWarps = 8;
inline constexpr int64_t kPiece = 16384;

// Maps an element of a row with the row's result.
template <class S>
BOLTZMAX_DEVICE void MapElement(const RowOf<S>& row, const Result<Compute<S>>& result, const ExpOf<S>& exp, int64_t i) {
  using T = Compute<S>;
  const T x = row.X(i);
  const auto exponential = [&] { return x == result.totals.max ? T(1) : exp(x - result.totals.max); };
  const auto mapped = [&] {
    switch (row.task.operation) {
      case Operation::kLogSoftmax: return result.template Map<Operation::kLogSoftmax, S>(x, false);
      case Operation::kCrossEntropy:
        return result.template Map<Operation::kCrossEntropy, S>(exponential(), i == result.target);
      default: return result.template Map<Operation::kSoftmax, S>(exponential(), false);
    }
  };
  row.SetY(i, row.Counts(i) ? mapped() : Result<T>::Uncounted(row.task.operation));
}

// Sums one piece. A row of one piece is mapped at once (`sums` is null).
template <class S>
__global__ void __launch_bounds__(32 * kPieceWarps)
    PiecesOfRows(const __grid_constant__ Task task, int64_t pieces, RowSum<Compute<S>>* sums) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(T, shared_max, kPieceWarps);
  BOLTZMAX_SHARED(T, shared_log, 2);
  BOLTZMAX_SHARED(Terms<T>, shared_terms, kPieceWarps);
  const Temperature<T> temperature(task.temperature);
  const ExpOf<S> exp(temperature);
  const int64_t begin = static_cast<int64_t>(blockIdx.x) % pieces * kPiece;
  const int64_t end = begin + kPiece < task.n ? begin + kPiece : task.n;
  const int64_t r = static_cast<int64_t>(blockIdx.x) / pieces;
  const RowOf<S> row(task, r);
  const int64_t first = begin + static_cast<int64_t>(threadIdx.x), step = 32 * kPieceWarps;

  T max = -Infinity<T>();
  BOLTZMAX_NO_UNROLL
  for (int64_t i = first; i < end; i += step) {
    if (row.Counts(i)) max = Max(max, row.X(i));
  }
  max = Fold<kPieceWarps>(max, shared_max, TakeLarger());

  RowSum<T> sum = RowSum<T>::Empty();
  sum.max = max;
  BOLTZMAX_NO_UNROLL
  for (int64_t i = first; i < end; i += step) {
    if (row.Counts(i)) sum.AddElement(row.X(i), exp);
  }
  sum.terms = Fold<kPieceWarps>(sum.terms, shared_terms, Join());
  if (sums != nullptr) {
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
    return;
  }

  const Result<T> result(task, r, sum, shared_log);
  if (threadIdx.x == 0) result.StoreOfRow(r, row);
  if (!result.MapsElements()) return;
  __syncthreads();  // y may be x, of which the loss has just read an element
  BOLTZMAX_NO_UNROLL
  for (int64_t i = first; i < end; i += step) {
    MapElement(row, result, exp, i);
  }
}

// Joins the sums of a row's pieces in order: the first becomes the sum of the row. Stores results of whole rows.
template <class S>
__global__ void __launch_bounds__(32 * kPieceWarps)
    JoinPieces(const __grid_constant__ Task task, int64_t pieces, RowSum<Compute<S>>* sums) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(RowSum<T>, shared_sum, kPieceWarps);
  const Temperature<T> temperature(task.temperature);
  const int64_t r = static_cast<int64_t>(blockIdx.x);
  auto sum = RowSum<T>::Empty();
  BOLTZMAX_NO_UNROLL
  for (int64_t s = static_cast<int64_t>(threadIdx.x); s < pieces; s += 32 * kPieceWarps) {
    sum.Merge(sums[r * pieces + s], temperature);
  }
  sum = Fold<kPieceWarps>(sum, shared_sum, [&](RowSum<T>& a, const RowSum<T>& b) { a.Merge(b, temperature); });
  if (threadIdx.x != 0) return;
  sums[r * pieces] = sum;
  Result<T>(task, r, sum, nullptr).StoreOfRow(r, RowOf<S>(task, r));
}

// Maps a piece with the sum of the whole row.
template <class S>
__global__ void __launch_bounds__(32 * kPieceWarps)
    MapPieces(const __grid_constant__ Task task, int64_t pieces, const RowSum<Compute<S>>* sums) {
  using T = Compute<S>;
  BOLTZMAX_SHARED(T, shared_log, 2);
  const Temperature<T> temperature(task.temperature);
  const ExpOf<S> exp(temperature);
  const int64_t piece = static_cast<int64_t>(blockIdx.x) % pieces, r = static_cast<int64_t>(blockIdx.x) / pieces;
  const RowOf<S> row(task, r);
  const RowSum<T> sum = sums[r * pieces];
  const Result<T> result(task, r, sum, shared_log);
  const int64_t end = (piece + 1) * kPiece < task.n ? (piece + 1) * kPiece : task.n;
  BOLTZMAX_NO_UNROLL
  for (int64_t i = piece * kPiece + static_cast<int64_t>(threadIdx.x); i < end; i += 32 * kPieceWarps) {
    MapElement(row, result, exp, i);
  }
}

}  // namespace boltzmax::cuda
