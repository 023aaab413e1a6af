// Losses: sums over rows.
#include "losses.cuh"

#include "grid.cuh"

namespace boltzmax::cuda {

namespace {

// One launch for few terms, else two.
template <class Term, class Store>
void Sum(Term term, int64_t count, Store store, Stream stream) {
  constexpr int64_t kOfBlock = 16 * kLossThreads, kMostBlocks = 512;
  const int64_t blocks = std::min(CeilDivide(count, kOfBlock), kMostBlocks);
  const dim3 threads(kLossThreads);
  if (blocks <= 1) return Launch(SumOfTerms<Term, Store>, {1, threads}, stream, term, count, kLossThreads, store);
  const Workspace workspace(static_cast<size_t>(blocks) * sizeof(double), stream);
  auto* const parts = static_cast<double*>(workspace.memory);
  Launch(SumOfTerms<Term, ToPart>, {blocks, threads}, stream, term, count, blocks * kLossThreads, ToPart{parts});
  Launch(SumOfTerms<PartOfSum, Store>, {1, threads}, stream, PartOfSum{parts}, blocks, kLossThreads, store);
}

}  // namespace

void WidenTargets(const int32_t* from, int64_t* to, int64_t count, Stream stream) {
  if (count == 0) return;
  Launch(WidenedTargets, {CeilDivide(count, kLossThreads), dim3(kLossThreads)}, stream, from, to, count);
}

void PrepareMean(const int64_t* target, int64_t rows, bool zero_if_empty, double* scale, Stream stream) {
  Sum(RowCounts{target}, rows, ToInverse{scale, zero_if_empty}, stream);
}

void JoinLosses(const Losses& losses, const double* scale, void* result, Stream stream) {
  if (losses.storage == Storage::kFloat64) {
    const LossOfRow<double> loss = {static_cast<const double*>(losses.losses)};
    return Sum(loss, losses.rows, ToLoss<double>{scale, static_cast<double*>(result)}, stream);
  }
  const LossOfRow<float> loss = {static_cast<const float*>(losses.losses)};
  Sum(loss, losses.rows, ToLoss<float>{scale, static_cast<float*>(result)}, stream);
}

}  // namespace boltzmax::cuda
