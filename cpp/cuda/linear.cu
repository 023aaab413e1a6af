// Cross-entropy of a linear layer, of whose logits only a tile exists at a time.
#include "linear.cuh"

#include "grid.cuh"
#include "products.hpp"

namespace boltzmax::cuda {

namespace {

template <class S>
class LinearLayer {
  using T = Compute<S>;

 public:
  LinearLayer(const LinearTask& task, Stream stream)
      : task_(task),
        stream_(stream),
        products_(stream),
        height_(std::clamp<int64_t>(task.rows, 1, kTallest)),
        width_(WidthFor(task)),
        sums_(Bytes<RowSum<T>>(task.rows), stream),
        target_logits_(Bytes<T>(task.rows), stream),
        logits_(Bytes<T>(height_ * StepOf(width_)), stream),
        // Slopes of the same size as logits replace them.
        slopes_(sizeof(S) == sizeof(T) ? 0 : Bytes<S>(height_ * StepOf(width_)), stream),
        counted_(task.d_hidden == nullptr ? 0 : Bytes<S>(height_ * task.features), stream),
        factors_(Bytes<T>(3), stream) {}

  void Run() {
    Launch(Factors<S>, {1, dim3(1)}, stream_, task_, AsFactors());
    for (int64_t row = 0; row < task_.rows; row += height_) {
      const int64_t height = std::min(height_, task_.rows - row);
      for (int64_t first = 0; first < task_.classes; first += width_) Sum(TileAt(row, height, first));
      if (task_.d_hidden == nullptr) continue;
      CopyCounted(row, height);
      // The last tile still holds its logits.
      const int64_t last = (task_.classes - 1) / width_ * width_;
      for (int64_t first = last; first >= 0; first -= width_) AddGradients(TileAt(row, height, first), first == last);
    }
    if (task_.rows == 0) return;
    if (task_.d_hidden != nullptr) Launch(ClearUncounted<S>, {task_.rows, dim3(kTileThreads)}, stream_, task_);
    Launch(LossesOfRows<T>, {CeilDivide(task_.rows, kTileThreads), dim3(kTileThreads)}, stream_, task_, AsSums(),
           AsTargetLogits());
  }

 private:
  // With this many rows, products are bound by arithmetic, whatever their other dimensions.
  static constexpr int64_t kTallest = 4096;

  // Rows of tiles are aligned as products prefer.
  static constexpr int64_t kStep = 64;
  int64_t StepOf(int64_t width) const { return width < kStep ? width : CeilDivide(width, kStep) * kStep; }
  int64_t WidthFor(const LinearTask& task) const {
    const int64_t fits = task.tile / height_;
    return std::clamp<int64_t>(fits > kStep ? fits / kStep * kStep : fits, 1, task.classes);
  }

  template <class X>
  static size_t Bytes(int64_t count) {
    return static_cast<size_t>(count) * sizeof(X);
  }
  T* AsLogits() const { return static_cast<T*>(logits_.memory); }
  S* AsSlopes() const { return static_cast<S*>(sizeof(S) == sizeof(T) ? logits_.memory : slopes_.memory); }
  T* AsFactors() const { return static_cast<T*>(factors_.memory); }
  const T* Zero() const { return AsFactors() + 1; }
  const T* One() const { return AsFactors() + 2; }
  T* AsTargetLogits() const { return static_cast<T*>(target_logits_.memory); }
  RowSum<T>* AsSums() const { return static_cast<RowSum<T>*>(sums_.memory); }

  Tile TileAt(int64_t row, int64_t height, int64_t first) const {
    const int64_t width = std::min(width_, task_.classes - first);
    return {row, height, first, width, StepOf(width)};
  }
  const S* HiddenOf(const Tile& tile) const { return static_cast<const S*>(task_.hidden) + tile.row * task_.features; }
  const S* WeightOf(const Tile& tile) const {
    return static_cast<const S*>(task_.weight) + tile.first * task_.features;
  }

  // logits = hidden weight'
  void Score(const Tile& tile) {
    products_.Run({task_.storage,
                   tile.height,
                   tile.width,
                   task_.features,
                   {HiddenOf(tile), task_.features, false},
                   {WeightOf(tile), task_.features, true},
                   AsLogits(),
                   tile.step,
                   One(),
                   Zero()});
  }
  void Sum(const Tile& tile) {
    Score(tile);
    Launch(SumsOfTile<S>, {tile.height, dim3(kTileThreads)}, stream_, task_, tile, AsLogits(), AsSums(),
           AsTargetLogits());
  }
  // Keeps the hidden rows that count, and zeros for the others: 0 times a value that is not finite would not be 0.
  void CopyCounted(int64_t row, int64_t height) {
    const S* hidden = static_cast<const S*>(task_.hidden) + row * task_.features;
    Launch(CountedRows<S>, {height, dim3(kTileThreads)}, stream_, task_, hidden, task_.target + row,
           static_cast<S*>(counted_.memory));
  }
  // Adds a tile's part of the gradients: d_hidden += slopes weight, d_weight += slopes' hidden.
  void AddGradients(const Tile& tile, bool has_logits) {
    if (!has_logits) Score(tile);
    Launch(SlopesOfTile<S>, {tile.height, dim3(kTileThreads)}, stream_, task_, tile, AsLogits(), AsSums(), AsSlopes());
    products_.Run({task_.storage,
                   tile.height,
                   task_.features,
                   tile.width,
                   {AsSlopes(), tile.step, false},
                   {WeightOf(tile), task_.features, false},
                   static_cast<T*>(task_.d_hidden) + tile.row * task_.features,
                   task_.features,
                   AsFactors(),
                   has_logits ? Zero() : One()});
    products_.Run({task_.storage,
                   tile.width,
                   task_.features,
                   tile.height,
                   {AsSlopes(), tile.step, true},
                   {counted_.memory, task_.features, false},
                   static_cast<T*>(task_.d_weight) + tile.first * task_.features,
                   task_.features,
                   AsFactors(),
                   tile.row == 0 ? Zero() : One()});
    if (task_.d_bias == nullptr) return;
    Launch(BiasOfTile<S>, {CeilDivide(tile.width, 32), dim3(32, kTileWarps)}, stream_, task_, tile, AsSlopes(),
           AsFactors());
  }

  const LinearTask& task_;
  Stream stream_;
  Products products_;
  int64_t height_, width_;
  Workspace sums_, target_logits_, logits_, slopes_, counted_, factors_;
};

}  // namespace

void RunLinear(const LinearTask& task, Stream stream) {
  switch (task.storage) {
    case Storage::kFloat32: return LinearLayer<float>(task, stream).Run();
    case Storage::kFloat64: return LinearLayer<double>(task, stream).Run();
    case Storage::kFloat16: return LinearLayer<Half>(task, stream).Run();
    case Storage::kBFloat16: return LinearLayer<BFloat16>(task, stream).Run();
  }
}

}  // namespace boltzmax::cuda
