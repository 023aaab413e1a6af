// The hierarchical layer.
#include "tree.cuh"

#include "grid.cuh"

namespace boltzmax::cuda {

namespace {

// Memory for rows; as many rows run at a time as fit into it.
constexpr int64_t kScratch = int64_t{256} << 20;

template <class S>
void RunPaths(const LayerTask& task, Stream stream) {
  using T = Compute<S>;
  const int64_t longest = std::max<int64_t>(task.longest, 1);
  const auto bytes = static_cast<int64_t>(sizeof(T)) * longest;
  const int64_t together = std::clamp<int64_t>(kScratch / bytes, 1, task.rows);
  const Workspace scores(static_cast<size_t>(together * bytes), stream);
  const auto kernel = task.d_hidden == nullptr ? PathsOfRows<S, false> : PathsOfRows<S, true>;
  for (int64_t first = 0; first < task.rows; first += together) {
    const Grid grid = {std::min(together, task.rows - first), dim3(kLayerThreads)};
    Launch(kernel, grid, stream, task, first, static_cast<T*>(scores.memory));
  }
}

template <class S>
void RunTop(const LayerTask& task, const TopTask& top, Stream stream) {
  using T = Compute<S>;
  const auto of_open = static_cast<int64_t>(sizeof(Place)) * task.tree.inner;
  const auto of_scores = static_cast<int64_t>(sizeof(T)) * std::max<int64_t>(top.widest, 1);
  const int64_t blocks = std::clamp<int64_t>(kScratch / (of_open + of_scores), 1, task.rows);
  const Workspace open(static_cast<size_t>(blocks * of_open), stream);
  const Workspace scores(static_cast<size_t>(blocks * of_scores), stream);
  Launch(TopClassesOfRows<S>, {blocks, dim3(kLayerThreads)}, stream, task, top, blocks,
         static_cast<Place*>(open.memory), static_cast<T*>(scores.memory));
}

}  // namespace

void RunLayer(const LayerTask& task, Stream stream) {
  if (task.rows == 0) return;
  switch (task.storage) {
    case Storage::kFloat32: return RunPaths<float>(task, stream);
    case Storage::kFloat64: return RunPaths<double>(task, stream);
    case Storage::kFloat16: return RunPaths<Half>(task, stream);
    case Storage::kBFloat16: return RunPaths<BFloat16>(task, stream);
  }
}

void RunTopClasses(const LayerTask& task, const TopTask& top, Stream stream) {
  if (task.rows == 0) return;
  switch (task.storage) {
    case Storage::kFloat32: return RunTop<float>(task, top, stream);
    case Storage::kFloat64: return RunTop<double>(task, top, stream);
    case Storage::kFloat16: return RunTop<Half>(task, top, stream);
    case Storage::kBFloat16: return RunTop<BFloat16>(task, top, stream);
  }
}

}  // namespace boltzmax::cuda
