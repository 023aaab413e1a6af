// Products of matrices on the emulated device, in double precision.
#include "../products.hpp"

#include "../numbers.cuh"

namespace boltzmax::cuda {

namespace {

template <class S>
double At(const Matrix& matrix, int64_t i, int64_t j) {
  const int64_t at = matrix.is_transposed ? j * matrix.step + i : i * matrix.step + j;
  return static_cast<double>(Widen(static_cast<const S*>(matrix.data)[at]));
}

template <class S>
void Multiply(const MatrixProduct& p) {
  using T = Compute<S>;
  const double factor = static_cast<double>(*static_cast<const T*>(p.factor));
  const double kept = static_cast<double>(*static_cast<const T*>(p.kept));
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      double sum = 0.0;
      for (int64_t l = 0; l < p.k; ++l) sum += At<S>(p.a, i, l) * At<S>(p.b, l, j);
      T& c = static_cast<T*>(p.c)[i * p.c_step + j];
      c = static_cast<T>(factor * sum + (kept == 0.0 ? 0.0 : kept * static_cast<double>(c)));
    }
  }
}

}  // namespace

std::string LoadProducts(const std::vector<std::string>&) { return ""; }

Products::Products(Stream stream) : workspace_(1, stream), handle_(nullptr) {}
Products::~Products() = default;

void Products::Run(const MatrixProduct& product) {
  switch (product.storage) {
    case Storage::kFloat32: return Multiply<float>(product);
    case Storage::kFloat64: return Multiply<double>(product);
    case Storage::kFloat16: return Multiply<Half>(product);
    case Storage::kBFloat16: return Multiply<BFloat16>(product);
  }
}

}  // namespace boltzmax::cuda
