// Rows of a matrix that are picked by their indices, and the logistic losses of a tile. Python has checked the indices.
#include "../../cpp/core/linear/picked_rows.hpp"

#include "../../cpp/core/linear/logistic_tiles.hpp"
#include "../../cpp/core/runtime/row_blocks.hpp"
#include "detached.hpp"
#include "linear.hpp"
#include "tile_operands.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

// A contiguous matrix, and the indices of the rows that are picked, or None for all of them.
struct PickedMatrix {
  PickedRows rows;
  RowForm form;

  PickedMatrix(const py::handle& matrix, const py::handle& at) {
    PyArrayObject* array = AsArray(matrix, "a matrix");
    Require(PyArray_NDIM(array) == 2 && PyArray_ISCARRAY_RO(array), "a contiguous matrix is needed");
    Require(PyArray_TYPE(array) == NPY_FLOAT || PyArray_TYPE(array) == NPY_DOUBLE, "a matrix must be float or double");
    npy_intp count = PyArray_DIM(array, 0);
    rows = {PyArray_BYTES(array), nullptr};
    if (!at.is_none()) {
      count = PyArray_SIZE(AsArray(at, "indices"));
      rows.at = AsNumbers<int64_t>(at, NPY_INT64, {count});
    }
    form = {*DTypeOf(array), static_cast<size_t>(count), static_cast<size_t>(PyArray_DIM(array, 1))};
  }

  int Type() const { return form.storage == DType::kFloat32 ? NPY_FLOAT : NPY_DOUBLE; }
  npy_intp Count() const { return static_cast<npy_intp>(form.count); }
};

void RequireSameForm(const PickedMatrix& a, const PickedMatrix& b) {
  Require(a.form.storage == b.form.storage && a.form.count == b.form.count && a.form.n == b.form.n,
          "rows of one form are needed");
}

double CostOf(const RowForm& form) { return EstimateNanoseconds(form.count * form.n, form.storage); }

void RunCopyRows(const py::object& matrix, const py::object& at, const py::object& to) {
  const PickedMatrix from(matrix, at), result(to, py::none());
  RequireSameForm(from, result);
  Detached(CostOf(from.form), [&] { CopyRows(from.form, from.rows, result.rows.data); });
}

void RunDotRows(const py::object& a, const py::object& a_at, const py::object& b, const py::object& b_at,
                const py::object& z) {
  const PickedMatrix left(a, a_at), right(b, b_at);
  RequireSameForm(left, right);
  auto* dots = AsNumbers<double>(z, NPY_DOUBLE, {left.Count()});
  Require(dots != nullptr, "room for the products is missing");
  Detached(CostOf(left.form), [&] { DotRows(left.form, left.rows, right.rows, dots); });
}

void RunAddRows(const py::object& sums, const py::object& sums_at, const py::object& gain, const py::object& rows,
                const py::object& rows_at) {
  const PickedMatrix to(sums, sums_at), from(rows, rows_at);
  RequireSameForm(to, from);
  const auto* gains = AsNumbers<double>(gain, NPY_DOUBLE, {to.Count()});
  Detached(CostOf(to.form), [&] { AddRows(to.form, to.rows, gains, from.rows); });
}

void RunLogisticTile(const py::object& x, const py::object& bias, const py::object& scale, const py::object& losses,
                     const py::object& column_sums) {
  const LogitTile tile = AsTile(x, 0, false);
  const auto rows = static_cast<npy_intp>(tile.rows), n = static_cast<npy_intp>(tile.n);
  const auto* biases = AsNumbers<char>(bias, TypeOf(tile), {n});
  const auto* scales = AsNumbers<double>(scale, NPY_DOUBLE, {rows});
  auto* sums = AsNumbers<double>(column_sums, NPY_DOUBLE, {n});
  auto* totals = AsNumbers<double>(losses, NPY_DOUBLE, {rows});
  Require(totals != nullptr, "room for the losses is missing");
  Detached(4.0 * EstimateNanoseconds(tile.rows * tile.n, tile.storage),
           [&] { LogisticTile(tile, biases, scales, totals, sums); });
}

}  // namespace

void BindPickedRows(py::module_& module) {
  module.def("copy_rows", RunCopyRows, py::arg("matrix"), py::arg("at"), py::arg("to"));
  module.def("dot_rows", RunDotRows, py::arg("a"), py::arg("a_at"), py::arg("b"), py::arg("b_at"), py::arg("z"));
  module.def("add_rows", RunAddRows, py::arg("sums"), py::arg("sums_at"), py::arg("gain"), py::arg("rows"),
             py::arg("rows_at"));
  module.def("logistic_tile", RunLogisticTile, py::arg("x"), py::arg("bias"), py::arg("scale"), py::arg("losses"),
             py::arg("column_sums"));
}

}  // namespace boltzmax
