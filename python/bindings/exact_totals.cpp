#include "exact_totals.hpp"

#include "../../cpp/core/runtime/row_blocks.hpp"
#include "../../cpp/core/weighted/exact_totals.hpp"
#include "checks.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

static_assert(sizeof(RowTotal) == 8 * sizeof(int64_t) && sizeof(SignedSum) == 6 * sizeof(int64_t));

// A matrix of 64-bit words in C order, of which each row is a struct.
template <class Struct>
Struct* StructsOf(const py::handle& object, size_t* rows) {
  PyArrayObject* array = AsArray(object, "a state");
  Require(PyArray_TYPE(array) == NPY_INT64 && PyArray_NDIM(array) == 2 &&
              PyArray_DIM(array, 1) == static_cast<npy_intp>(sizeof(Struct) / sizeof(int64_t)) &&
              PyArray_ISCARRAY(array),
          "a state must be a matrix of int64");
  *rows = static_cast<size_t>(PyArray_DIM(array, 0));
  return reinterpret_cast<Struct*>(PyArray_DATA(array));
}

double* DoublesOf(const py::handle& object, size_t size) {
  PyArrayObject* array = AsArray(object, "an operand");
  Require(PyArray_TYPE(array) == NPY_DOUBLE && PyArray_NDIM(array) == 1 && PyArray_ISCARRAY(array) &&
              static_cast<size_t>(PyArray_DIM(array, 0)) == size,
          "an operand must be doubles, one per row");
  return static_cast<double*>(PyArray_DATA(array));
}

PyArrayObject* MatrixOf(const py::handle& object) {
  PyArrayObject* x = AsArray(object, "x");
  Require(PyArray_TYPE(x) == NPY_FLOAT || PyArray_TYPE(x) == NPY_DOUBLE, "x must be float32 or float64");
  Require(PyArray_NDIM(x) == 2 && PyArray_ISCARRAY_RO(x), "x must be a matrix in C order");
  return x;
}

RowParts PartsOf(PyArrayObject* x, double temperature) {
  return {RequireDType(x),
          PyArray_BYTES(x),
          PyArray_STRIDE(x, 0),
          static_cast<size_t>(PyArray_DIM(x, 0)),
          static_cast<size_t>(PyArray_DIM(x, 1)),
          temperature};
}

double CostOf(const RowParts& parts) { return 4.0 * EstimateNanoseconds(parts.rows, parts.n, DType::kFloat64); }

void Add(const py::object& x, int64_t first, double temperature, const py::object& totals_object) {
  const RowParts parts = PartsOf(MatrixOf(x), temperature);
  size_t rows;
  auto* totals = StructsOf<RowTotal>(totals_object, &rows);
  Require(rows == parts.rows, "there must be a total for each row");
  Detached(CostOf(parts), [&] { AddParts(parts, first, totals); });
}

void MergeTotals(const py::object& totals_object, const py::object& other_object, double temperature) {
  size_t rows, others;
  auto* totals = StructsOf<RowTotal>(totals_object, &rows);
  const auto* other = StructsOf<RowTotal>(other_object, &others);
  Require(rows == others, "there must be as many totals");
  Detached(40.0 * static_cast<double>(rows), [&] {
    for (size_t r = 0; r < rows; ++r) Merge(&totals[r], other[r], temperature);
  });
}

void FinishTotals(const py::object& totals_object, double temperature, const py::object& log_sum,
                  const py::object& sum) {
  size_t rows;
  const auto* totals = StructsOf<RowTotal>(totals_object, &rows);
  double *logs = DoublesOf(log_sum, rows), *sums = DoublesOf(sum, rows);
  Detached(50.0 * static_cast<double>(rows), [&] { Finish(totals, rows, temperature, logs, sums); });
}

void Map(const py::object& x_object, double temperature, const py::object& max, const py::object& log_sum,
         const py::object& sum, bool wants_log, const py::object& y_object) {
  PyArrayObject *x = MatrixOf(x_object), *y = MatrixOf(y_object);
  Require(PyArray_SAMESHAPE(x, y) && PyArray_TYPE(x) == PyArray_TYPE(y) && PyArray_ISCARRAY(y), "y must be like x");
  const RowParts parts = PartsOf(x, temperature);
  const double *m = DoublesOf(max, parts.rows), *l = DoublesOf(log_sum, parts.rows), *s = DoublesOf(sum, parts.rows);
  Detached(CostOf(parts), [&] { MapParts(parts, m, l, s, wants_log, PyArray_BYTES(y)); });
}

void AddSigned(const py::object& x_object, const py::object& sums_object) {
  PyArrayObject* x = MatrixOf(x_object);
  Require(PyArray_TYPE(x) == NPY_DOUBLE, "x must be float64");
  size_t rows;
  auto* sums = StructsOf<SignedSum>(sums_object, &rows);
  Require(static_cast<npy_intp>(rows) == PyArray_DIM(x, 0), "there must be a sum for each row");
  const auto n = static_cast<size_t>(PyArray_DIM(x, 1));
  Detached([&] { AddNumbers(static_cast<const double*>(PyArray_DATA(x)), rows, n, sums); });
}

void MergeSigned(const py::object& sums_object, const py::object& other_object) {
  size_t rows, others;
  auto* sums = StructsOf<SignedSum>(sums_object, &rows);
  const auto* other = StructsOf<SignedSum>(other_object, &others);
  Require(rows == others, "there must be as many sums");
  Detached(20.0 * static_cast<double>(rows), [&] {
    for (size_t r = 0; r < rows; ++r) Merge(&sums[r], other[r]);
  });
}

void RoundSigned(const py::object& sums_object, const py::object& high_object, const py::object& low_object) {
  size_t rows;
  const auto* sums = StructsOf<SignedSum>(sums_object, &rows);
  double *high = DoublesOf(high_object, rows), *low = DoublesOf(low_object, rows);
  Detached(50.0 * static_cast<double>(rows), [&] {
    for (size_t r = 0; r < rows; ++r) Round(sums[r], &high[r], &low[r]);
  });
}

}  // namespace

void BindExactTotals(py::module_& module) {
  module.def("exact_totals_add", Add, py::arg("x"), py::arg("first"), py::arg("temperature"), py::arg("totals"));
  module.def("exact_totals_merge", MergeTotals, py::arg("totals"), py::arg("other"), py::arg("temperature"));
  module.def("exact_totals_finish", FinishTotals, py::arg("totals"), py::arg("temperature"), py::arg("log_sum"),
             py::arg("sum"));
  module.def("exact_totals_map", Map, py::arg("x"), py::arg("temperature"), py::arg("max"), py::arg("log_sum"),
             py::arg("sum"), py::arg("wants_log"), py::arg("y"));
  module.def("signed_sums_add", AddSigned, py::arg("x"), py::arg("sums"));
  module.def("signed_sums_merge", MergeSigned, py::arg("sums"), py::arg("other"));
  module.def("signed_sums_round", RoundSigned, py::arg("sums"), py::arg("high"), py::arg("low"));
}

}  // namespace boltzmax
