#include "losses.hpp"

#include <stdexcept>
#include <string>

#include "../../cpp/core/losses/cross_entropy.hpp"
#include "../../cpp/core/runtime/row_blocks.hpp"
#include "../../cpp/core/stats/row_stats.hpp"
#include "arrays.hpp"
#include "checks.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

// Rows of contiguous, aligned elements of a type that has kernels.
PyArrayObject* AsMatrix(const py::handle& value) {
  PyArrayObject* array = AsArray(value, "an operand");
  Require(PyArray_NDIM(array) == 2 && PyArray_ISALIGNED(array), "an aligned matrix is needed");
  const auto dtype = DTypeOf(array);
  Require(dtype && HasKernels(*dtype), "a floating dtype is needed");
  Require(PyArray_SIZE(array) == 0 || PyArray_DIM(array, 1) < 2 || PyArray_STRIDE(array, 1) == PyArray_ITEMSIZE(array),
          "contiguous rows are needed");
  return array;
}

// One contiguous number per row; null for None.
template <class T>
T* AsColumn(const py::handle& value, npy_intp rows, int type) {
  if (value.is_none()) return nullptr;
  PyArrayObject* array = AsArray(value, "an operand");
  Require(PyArray_NDIM(array) == 1 && PyArray_DIM(array, 0) == rows && PyArray_TYPE(array) == type &&
              PyArray_ISCARRAY_RO(array),
          "one contiguous number per row is needed");
  return static_cast<T*>(PyArray_DATA(array));
}

void RunCrossEntropy(const py::object& logits_object, const py::object& target, double temperature,
                     const py::object& lse, const py::object& log_prob, const py::object& distance,
                     const py::object& gradient_object, const py::object& gain, const py::object& lse_gain,
                     const py::object& add, const py::object& target_gain) {
  PyArrayObject* logits = AsMatrix(logits_object);
  PyArrayObject* gradient = gradient_object.is_none() ? nullptr : AsMatrix(gradient_object);
  const npy_intp rows = PyArray_DIM(logits, 0), n = PyArray_DIM(logits, 1);
  Require(gradient == nullptr || (PyArray_SAMESHAPE(logits, gradient) && PyArray_ISWRITEABLE(gradient) &&
                                  PyArray_TYPE(logits) == PyArray_TYPE(gradient)),
          "the gradient does not fit the logits");
  const CrossEntropyProblem problem = {*DTypeOf(logits),
                                       PyArray_BYTES(logits),
                                       PyArray_STRIDE(logits, 0),
                                       static_cast<size_t>(rows),
                                       static_cast<size_t>(n),
                                       AsColumn<int64_t>(target, rows, NPY_INT64),
                                       temperature,
                                       AsColumn<double>(lse, rows, NPY_DOUBLE),
                                       AsColumn<double>(log_prob, rows, NPY_DOUBLE),
                                       AsColumn<double>(distance, rows, NPY_DOUBLE),
                                       gradient == nullptr ? nullptr : PyArray_BYTES(gradient),
                                       gradient == nullptr ? 0 : PyArray_STRIDE(gradient, 0),
                                       AsColumn<double>(gain, rows, NPY_DOUBLE),
                                       AsColumn<double>(lse_gain, rows, NPY_DOUBLE),
                                       AsColumn<double>(add, rows, NPY_DOUBLE),
                                       AsColumn<double>(target_gain, rows, NPY_DOUBLE),
                                       1,
                                       static_cast<size_t>(rows)};
  Require(problem.target != nullptr && problem.lse != nullptr && problem.log_prob != nullptr, "a column is missing");
  Require(gradient == nullptr || (problem.gain != nullptr && problem.lse_gain != nullptr && problem.add != nullptr &&
                                  problem.target_gain != nullptr),
          "a column of the gradient is missing");
  for (npy_intp r = 0; r < rows; ++r) Require(problem.target[r] < n, "a target is out of range");
  Detached(2.0 * EstimateNanoseconds(static_cast<size_t>(rows * n), problem.storage), [&] { Run(problem); });
}

void RunRowStats(const py::object& logits_object, const py::object& target_object, double temperature, size_t k,
                 const py::object& lse, const py::object& energy, const py::object& entropy, const py::object& top_id,
                 const py::object& top_log_prob, const py::object& target_log_prob, const py::object& target_rank) {
  PyArrayObject* logits = AsMatrix(logits_object);
  const npy_intp rows = PyArray_DIM(logits, 0), n = PyArray_DIM(logits, 1);
  const auto top = static_cast<npy_intp>(k) * rows;
  const auto* target = AsColumn<int64_t>(target_object, rows, NPY_INT64);
  const DType storage = *DTypeOf(logits);
  const int type = storage == DType::kFloat64 ? NPY_DOUBLE : NPY_FLOAT;
  const RowStatsProblem problem = {storage,
                                   PyArray_BYTES(logits),
                                   PyArray_STRIDE(logits, 0),
                                   static_cast<size_t>(rows),
                                   static_cast<size_t>(n),
                                   {reinterpret_cast<const char*>(target), sizeof(int64_t), DType::kInt64},
                                   temperature,
                                   k,
                                   type == NPY_DOUBLE ? DType::kFloat64 : DType::kFloat32,
                                   AsColumn<char>(lse, rows, type),
                                   AsColumn<char>(energy, rows, type),
                                   AsColumn<char>(entropy, rows, type),
                                   AsColumn<int64_t>(top_id, top, NPY_INT64),
                                   AsColumn<char>(top_log_prob, top, type),
                                   AsColumn<char>(target_log_prob, rows, type),
                                   AsColumn<int64_t>(target_rank, rows, NPY_INT64)};
  Require(problem.lse != nullptr && static_cast<npy_intp>(k) <= n, "lse is missing, or k is more than n");
  Require(k == 0 || (problem.top_id != nullptr && problem.top_log_prob != nullptr), "a column of the top is missing");
  Require(target == nullptr || (problem.target_log_prob != nullptr && problem.target_rank != nullptr),
          "a column of the target is missing");
  bool in_range = false;
  Detached(EstimateNanoseconds(problem), [&] { in_range = Run(problem); });
  Require(in_range, "a target is out of range");
}

}  // namespace

void BindLosses(py::module_& module) {
  module.def("cross_entropy", RunCrossEntropy, py::arg("logits"), py::arg("target"), py::arg("temperature"),
             py::arg("lse"), py::arg("log_prob"), py::arg("distance"), py::arg("gradient"), py::arg("gain"),
             py::arg("lse_gain"), py::arg("add"), py::arg("target_gain"));
  module.def("row_stats", RunRowStats, py::arg("logits"), py::arg("target"), py::arg("temperature"), py::arg("k"),
             py::arg("lse"), py::arg("energy"), py::arg("entropy"), py::arg("top_id"), py::arg("top_log_prob"),
             py::arg("target_log_prob"), py::arg("target_rank"));
}

}  // namespace boltzmax
