// Products of matrices on the device, by cuBLAS. It is no part of this library: it is loaded when it is first wanted.
#pragma once

#include <string>
#include <vector>

#include "workspace.hpp"

namespace boltzmax::cuda {

// Row by row, `step` elements from one to the next; or so its transposed.
struct Matrix {
  const void* data;
  int64_t step;
  bool is_transposed;
};

// c = factor a b + kept c: (m, n) = (m, k) (k, n). a and b are of one storage, c of what is computed with it.
struct MatrixProduct {
  Storage storage;
  int64_t m, n, k;
  Matrix a, b;
  void* c;
  int64_t c_step;
  const void *factor, *kept;  // on the device
};

// Loads cuBLAS: the first of these files that is one. Says why there is none; nothing if there is.
std::string LoadProducts(const std::vector<std::string>& files);

// What products need, on one stream.
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
