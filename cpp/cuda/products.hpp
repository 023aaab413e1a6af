// Products of matrices on the device, by cuBLAS. It is not part of this library, and is loaded when first needed.
#pragma once

#include <string>
#include <vector>

#include "workspace.hpp"

namespace boltzmax::cuda {

// Rows, `step` elements apart; or the transpose of such a matrix.
struct Matrix {
  const void* data;
  int64_t step;
  bool is_transposed;
};

// c = factor a b + kept c: (m, n) = (m, k) (k, n). a and b have the same storage type, c has its arithmetic type.
struct MatrixProduct {
  Storage storage;
  int64_t m, n, k;
  Matrix a, b;
  void* c;
  int64_t c_step;
  const void *factor, *kept;  // on the device
};

// Loads cuBLAS: the first of these files that exists. Returns why none could be loaded; empty on success.
std::string LoadProducts(const std::vector<std::string>& files);

// Products on one stream.
class Products {
 public:
  explicit Products(Stream stream);
  ~Products();
  Products(const Products&) = delete;
  Products& operator=(const Products&) = delete;

  void Run(const MatrixProduct& product);

 private:
  Workspace workspace_;
  void* handle_;
};

}  // namespace boltzmax::cuda
