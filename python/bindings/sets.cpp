#include "sets.hpp"

#include <algorithm>

#include "../../cpp/core/runtime/row_blocks.hpp"
#include "../../cpp/core/sets/sets.hpp"
#include "checks.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

template <class T>
T* VectorOf(const py::handle& object, int type, size_t size, const char* what) {
  PyArrayObject* array = AsArray(object, "an operand");
  Require(PyArray_TYPE(array) == type && PyArray_NDIM(array) == 1 && PyArray_ISCARRAY_RO(array) &&
              static_cast<size_t>(PyArray_DIM(array, 0)) == size,
          what);
  return reinterpret_cast<T*>(PyArray_DATA(array));
}

ScoreRows AsRows(const py::handle& object) {
  PyArrayObject* x = AsArray(object, "x");
  Require(PyArray_NDIM(x) == 2 && PyArray_ISCARRAY_RO(x), "x must be a matrix in C order");
  return {RequireDType(x), PyArray_BYTES(x), PyArray_STRIDE(x, 0), static_cast<size_t>(PyArray_DIM(x, 0)),
          static_cast<size_t>(PyArray_DIM(x, 1))};
}

// (kind, weight, free_ranks)
ScoreRule AsRule(const py::tuple& rule) {
  Require(rule.size() == 3, "three parts of the rule are needed");
  const int kind = rule[0].cast<int>();
  Require(kind >= 0 && kind <= static_cast<int>(ScoreKind::kSaps), "no such score");
  return {static_cast<ScoreKind>(kind), rule[1].cast<double>(), rule[2].cast<double>()};
}

double CostOf(const ScoreRows& rows) { return 2.0 * EstimateNanoseconds(rows.rows, rows.n, rows.storage); }

void RunLabelScores(const py::object& x, const py::tuple& rule_object, const py::object& label_object,
                    const py::object& u_object, const py::object& score_object) {
  const ScoreRows rows = AsRows(x);
  const ScoreRule rule = AsRule(rule_object);
  const auto* label = VectorOf<int64_t>(label_object, NPY_INT64, rows.rows, "labels must be int64, one per row");
  const auto* u = VectorOf<double>(u_object, NPY_DOUBLE, rows.rows, "u must be doubles, one per row");
  auto* score = VectorOf<double>(score_object, NPY_DOUBLE, rows.rows, "scores must be doubles, one per row");
  const auto n = static_cast<int64_t>(rows.n);
  Require(std::all_of(label, label + rows.rows, [n](int64_t c) { return c >= 0 && c < n; }), "a label is out of range");
  Detached(CostOf(rows), [&] { LabelScores(rows, rule, label, u, score); });
}

// Writes the sets to `classes` and `probabilities`, which have room for all classes of all rows; returns how many
// classes there are in all.
size_t RunPredictSets(const py::object& x, const py::tuple& rule, double threshold, const py::object& thresholds,
                      const py::object& u, const py::object& size, const py::object& classes,
                      const py::object& probabilities) {
  SetsProblem problem = {};
  problem.rows = AsRows(x);
  const size_t rows = problem.rows.rows, n = problem.rows.n;
  problem.rule = AsRule(rule);
  problem.threshold = threshold;
  if (!thresholds.is_none()) {
    problem.thresholds = VectorOf<double>(thresholds, NPY_DOUBLE, n, "thresholds must be doubles, one per class");
  }
  problem.u = VectorOf<double>(u, NPY_DOUBLE, rows, "u must be doubles, one per row");
  problem.size = VectorOf<int64_t>(size, NPY_INT64, rows, "sizes must be int64, one per row");
  problem.classes = VectorOf<int32_t>(classes, NPY_INT32, rows * n, "classes must be int32, with room for all");
  const int type = problem.rows.storage == DType::kFloat64 ? NPY_DOUBLE : NPY_FLOAT;
  problem.probabilities = VectorOf<void>(probabilities, type, rows * n, "probabilities must have room for all");
  size_t total = 0;
  Detached(CostOf(problem.rows), [&] { total = PredictSets(problem); });
  return total;
}

}  // namespace

void BindSets(py::module_& module) {
  module.def("label_scores", RunLabelScores, py::arg("x"), py::arg("rule"), py::arg("label"), py::arg("u"),
             py::arg("score"));
  module.def("prediction_sets", RunPredictSets, py::arg("x"), py::arg("rule"), py::arg("threshold"),
             py::arg("thresholds"), py::arg("u"), py::arg("size"), py::arg("classes"), py::arg("probabilities"));
}

}  // namespace boltzmax
