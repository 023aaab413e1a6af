#include "linear.hpp"

#include "../../cpp/core/linear/pair_tiles.hpp"
#include "../../cpp/core/runtime/row_blocks.hpp"
#include "detached.hpp"
#include "tile_operands.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

// (q, w, sharp, even)
TileShares AsShares(const py::tuple& shares, const LogitTile& tile) {
  Require(shares.size() == 4, "four parts of the shares are needed");
  const auto rows = static_cast<npy_intp>(tile.rows), n = static_cast<npy_intp>(tile.n);
  return {AsNumbers<char>(shares[0], TypeOf(tile), {rows, n}), n * static_cast<ptrdiff_t>(ItemSize(tile.storage)),
          AsNumbers<char>(shares[1], TypeOf(tile), {n}), shares[2].cast<double>(), shares[3].cast<double>()};
}

// (label, reference, lse, own, shared, mass)
RowTotals AsTotals(const py::tuple& totals, npy_intp rows) {
  Require(totals.size() == 6, "six columns of the totals are needed");
  const auto column = [&](size_t i) { return AsNumbers<double>(totals[i], NPY_DOUBLE, {rows}); };
  const RowTotals result = {
      AsNumbers<int64_t>(totals[0], NPY_INT64, {rows}), column(1), column(2), column(3), column(4), column(5)};
  Require(result.reference != nullptr && result.lse != nullptr && (result.label == nullptr) == (result.own == nullptr),
          "a column of the totals is missing");
  return result;
}

// (id, score)
RowTop AsTop(const py::tuple& top, npy_intp rows) {
  Require(top.size() == 2 && top[0].is_none() == top[1].is_none(), "ids and scores are needed");
  if (top[0].is_none()) return {0, nullptr, nullptr};
  PyArrayObject* id = AsArray(top[0], "an operand");
  Require(PyArray_NDIM(id) == 2, "a matrix of ids is needed");
  const npy_intp k = PyArray_DIM(id, 1);
  return {static_cast<size_t>(k), AsNumbers<int64_t>(top[0], NPY_INT64, {rows, k}),
          AsNumbers<double>(top[1], NPY_DOUBLE, {rows, k})};
}

LossTerms AsTerms(const py::handle& hard, bool shares, double z_loss, const RowTotals& totals, npy_intp rows) {
  const LossTerms terms = {AsNumbers<double>(hard, NPY_DOUBLE, {rows}), shares, z_loss};
  Require(terms.hard == nullptr || totals.label != nullptr, "labels are missing");
  Require(!shares || (totals.shared != nullptr && totals.mass != nullptr), "a column of the shares is missing");
  return terms;
}

double CostOf(const LogitTile& tile) { return 2.0 * EstimateNanoseconds(tile.rows * tile.n, tile.storage); }

void RunAddTile(const py::object& x, size_t first, const py::object& bias, double temperature, double softcap,
                const py::tuple& shares_object, const py::tuple& totals_object, const py::tuple& top_object) {
  const LogitTile tile = AsTile(x, first, false);
  const auto rows = static_cast<npy_intp>(tile.rows);
  const Scoring scoring = {AsNumbers<char>(bias, TypeOf(tile), {static_cast<npy_intp>(tile.n)}), temperature, softcap};
  const TileShares shares = AsShares(shares_object, tile);
  const RowTotals totals = AsTotals(totals_object, rows);
  const RowTop top = AsTop(top_object, rows);
  Require(!shares.Any() || (totals.shared != nullptr && totals.mass != nullptr), "a column of the shares is missing");
  Detached(CostOf(tile), [&] { AddTile(tile, scoring, shares, totals, top); });
}

void RunFinishTop(const py::tuple& totals_object, const py::tuple& top_object) {
  const npy_intp rows = PyArray_SIZE(AsArray(totals_object[1], "an operand"));
  const RowTotals totals = AsTotals(totals_object, rows);
  FinishTop(static_cast<size_t>(rows), totals, AsTop(top_object, rows));
}

void RunLosses(const py::tuple& totals_object, const py::object& hard, bool shares, double z_loss,
               const py::object& losses) {
  const npy_intp rows = PyArray_SIZE(AsArray(losses, "an operand"));
  const RowTotals totals = AsTotals(totals_object, rows);
  const LossTerms terms = AsTerms(hard, shares, z_loss, totals, rows);
  Losses(static_cast<size_t>(rows), totals, terms, AsNumbers<double>(losses, NPY_DOUBLE, {rows}));
}

void RunSlopes(const py::object& x, size_t first, bool scored, const py::object& bias, double temperature,
               double softcap, const py::tuple& shares_object, const py::tuple& totals_object, const py::object& hard,
               double z_loss, const py::object& scale, const py::object& column_sums) {
  const LogitTile tile = AsTile(x, first, scored);
  const auto rows = static_cast<npy_intp>(tile.rows);
  const TileShares shares = AsShares(shares_object, tile);
  const RowTotals totals = AsTotals(totals_object, rows);
  const LossTerms terms = AsTerms(hard, shares.Any(), z_loss, totals, rows);
  const auto* scales = AsNumbers<double>(scale, NPY_DOUBLE, {rows});
  auto* sums = AsNumbers<double>(column_sums, NPY_DOUBLE, {static_cast<npy_intp>(tile.n)});
  Require(scales != nullptr, "a scale is missing");
  const Scoring scoring = {AsNumbers<char>(bias, TypeOf(tile), {static_cast<npy_intp>(tile.n)}), temperature, softcap};
  Detached(CostOf(tile), [&] { Slopes(tile, scoring, shares, totals, terms, scales, sums); });
}

// The scores of a tile and (largest, sum) of its first n columns.
void RunAddToColumns(const py::object& x, const py::object& largest, const py::object& sum) {
  const LogitTile tile = AsTile(x, 0, true);
  const npy_intp n = PyArray_SIZE(AsArray(sum, "an operand"));
  Require(static_cast<size_t>(n) <= tile.n, "more columns than the tile has");
  const ColumnTotals totals = {AsNumbers<double>(largest, NPY_DOUBLE, {n}), AsNumbers<double>(sum, NPY_DOUBLE, {n})};
  Require(totals.largest != nullptr, "a total of the columns is missing");
  Detached(CostOf(tile), [&] { AddToColumns(tile, static_cast<size_t>(n), totals); });
}

void RunPairSlopes(const py::object& x, size_t first, bool scored, double temperature, const py::tuple& totals_object,
                   const py::object& scale, const py::object& column_lse, double column_scale) {
  const LogitTile tile = AsTile(x, first, scored);
  const auto rows = static_cast<npy_intp>(tile.rows);
  const RowTotals totals = AsTotals(totals_object, rows);
  const auto* scales = AsNumbers<double>(scale, NPY_DOUBLE, {rows});
  const npy_intp n = PyArray_SIZE(AsArray(column_lse, "an operand"));
  Require(totals.label != nullptr && scales != nullptr, "labels and scales are needed");
  Require(static_cast<size_t>(n) <= tile.n, "more columns than the tile has");
  const ColumnSlopes columns = {AsNumbers<double>(column_lse, NPY_DOUBLE, {n}), column_scale};
  Detached(CostOf(tile), [&] { PairSlopes(tile, temperature, totals, scales, static_cast<size_t>(n), columns); });
}

}  // namespace

void BindLinear(py::module_& module) {
  module.def("linear_add_tile", RunAddTile, py::arg("x"), py::arg("first"), py::arg("bias"), py::arg("temperature"),
             py::arg("softcap"), py::arg("shares"), py::arg("totals"), py::arg("top"));
  module.def("linear_finish_top", RunFinishTop, py::arg("totals"), py::arg("top"));
  module.def("linear_losses", RunLosses, py::arg("totals"), py::arg("hard"), py::arg("shares"), py::arg("z_loss"),
             py::arg("losses"));
  module.def("linear_slopes", RunSlopes, py::arg("x"), py::arg("first"), py::arg("scored"), py::arg("bias"),
             py::arg("temperature"), py::arg("softcap"), py::arg("shares"), py::arg("totals"), py::arg("hard"),
             py::arg("z_loss"), py::arg("scale"), py::arg("column_sums"));
  module.def("linear_add_to_columns", RunAddToColumns, py::arg("x"), py::arg("largest"), py::arg("sum"));
  module.def("linear_pair_slopes", RunPairSlopes, py::arg("x"), py::arg("first"), py::arg("scored"),
             py::arg("temperature"), py::arg("totals"), py::arg("scale"), py::arg("column_lse"),
             py::arg("column_scale"));
}

}  // namespace boltzmax
