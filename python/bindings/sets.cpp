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

py::object NewVector(size_t size, int type) {
  auto length = static_cast<npy_intp>(size);
  PyObject* array = PyArray_SimpleNew(1, &length, type);
  if (array == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(array);
}

// An array of the elements in all parts. The memory of a single part is taken over; it is as large as the sets of all
// rows.
template <class T>
py::object Joined(std::vector<SetsOfRows>& sets, Growing<T> SetsOfRows::* part, int type) {
  size_t total = 0;
  for (const SetsOfRows& some : sets) total += (some.*part).Size();
  if (sets.size() == 1 && total != 0) {
    auto length = static_cast<npy_intp>(total);
    T* data = (sets[0].*part).Release().release();
    const py::capsule owner(data, [](void* p) { typename Growing<T>::Free()(p); });
    PyObject* array = PyArray_SimpleNewFromData(1, &length, type, data);
    if (array == nullptr) throw py::error_already_set();
    py::object result = py::reinterpret_steal<py::object>(array);
    if (PyArray_SetBaseObject(reinterpret_cast<PyArrayObject*>(array), owner.inc_ref().ptr()) < 0) {
      throw py::error_already_set();
    }
    return result;
  }
  py::object result = NewVector(total, type);
  auto* to = static_cast<T*>(PyArray_DATA(AsArray(result, "the result")));
  for (const SetsOfRows& some : sets) to = std::copy_n((some.*part).Data(), (some.*part).Size(), to);
  return result;
}

py::tuple RunPredictSets(const py::object& x, const py::tuple& rule, double threshold,
                         const py::object& thresholds_object, const py::object& u_object,
                         const py::object& size_object) {
  SetsProblem problem = {};
  problem.rows = AsRows(x);
  const size_t rows = problem.rows.rows;
  problem.rule = AsRule(rule);
  problem.threshold = threshold;
  if (!thresholds_object.is_none()) {
    problem.thresholds = VectorOf<double>(thresholds_object, NPY_DOUBLE, problem.rows.n, "thresholds must be doubles");
  }
  problem.u = VectorOf<double>(u_object, NPY_DOUBLE, rows, "u must be doubles, one per row");
  problem.size = VectorOf<int64_t>(size_object, NPY_INT64, rows, "sizes must be int64, one per row");
  std::vector<SetsOfRows> sets;
  Detached(CostOf(problem.rows), [&] { sets = PredictSets(problem); });
  const bool is_double = problem.rows.storage == DType::kFloat64;
  return py::make_tuple(
      Joined(sets, &SetsOfRows::classes, NPY_INT32),
      is_double ? Joined(sets, &SetsOfRows::doubles, NPY_DOUBLE) : Joined(sets, &SetsOfRows::floats, NPY_FLOAT));
}

}  // namespace

void BindSets(py::module_& module) {
  module.def("label_scores", RunLabelScores, py::arg("x"), py::arg("rule"), py::arg("label"), py::arg("u"),
             py::arg("score"));
  module.def("prediction_sets", RunPredictSets, py::arg("x"), py::arg("rule"), py::arg("threshold"),
             py::arg("thresholds"), py::arg("u"), py::arg("size"));
}

}  // namespace boltzmax
