#include "rescoring.hpp"

#include <algorithm>
#include <vector>

#include "../../cpp/core/linear/interval_draws.hpp"
#include "../../cpp/core/linear/rescored_top.hpp"
#include "../../cpp/core/runtime/row_blocks.hpp"
#include "checks.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

PyArrayObject* Contiguous(const py::handle& value, int type, int ndim, const char* what) {
  PyArrayObject* array = AsArray(value, what);
  Require(PyArray_TYPE(array) == type && PyArray_NDIM(array) == ndim && PyArray_ISCARRAY_RO(array), what);
  return array;
}

template <class T>
T* DataOf(PyArrayObject* array) {
  return static_cast<T*>(PyArray_DATA(array));
}

template <class T>
T* Vector(const py::handle& value, int type, npy_intp size, const char* what) {
  PyArrayObject* array = Contiguous(value, type, 1, what);
  Require(PyArray_DIM(array, 0) == size, what);
  return DataOf<T>(array);
}

template <class T>
T* Results(const py::handle& value, int type, npy_intp size, const char* what) {
  T* data = Vector<T>(value, type, size, what);
  Require(PyArray_ISWRITEABLE(AsArray(value, what)) != 0, what);
  return data;
}

// The layer, the hidden vectors, and candidates in compressed rows.
RescoreProblem AsProblem(const py::handle& hidden_object, const py::handle& weight_object, const py::handle& bias,
                         const py::handle& begin, const py::handle& ids_object) {
  PyArrayObject* hidden = Contiguous(hidden_object, NPY_FLOAT, 2, "hidden must be a float32 matrix in C order");
  PyArrayObject* weight = Contiguous(weight_object, NPY_FLOAT, 2, "weight must be a float32 matrix in C order");
  PyArrayObject* ids = Contiguous(ids_object, NPY_INT64, 1, "ids must be a vector of int64");
  const npy_intp rows = PyArray_DIM(hidden, 0), classes = PyArray_DIM(weight, 0), entries = PyArray_DIM(ids, 0);
  Require(PyArray_DIM(hidden, 1) == PyArray_DIM(weight, 1), "hidden and weight do not fit");
  RescoreProblem problem = {};
  problem.hidden = DataOf<float>(hidden);
  problem.weight = DataOf<float>(weight);
  if (!bias.is_none()) problem.bias = Vector<float>(bias, NPY_FLOAT, classes, "bias must be float32, one per class");
  problem.rows = static_cast<size_t>(rows);
  problem.classes = static_cast<size_t>(classes);
  problem.features = static_cast<size_t>(PyArray_DIM(hidden, 1));
  problem.begin = Vector<int64_t>(begin, NPY_INT64, rows + 1, "indptr must be int64, one per row and one more");
  Require(problem.begin[0] == 0 && problem.begin[rows] == entries &&
              std::is_sorted(problem.begin, problem.begin + rows + 1),
          "indptr must rise from 0 to the number of ids");
  problem.id = DataOf<int64_t>(ids);
  Require(std::all_of(problem.id, problem.id + entries, [&](int64_t id) { return id >= 0 && id < classes; }),
          "an id is not a class");
  for (npy_intp r = 0; r < rows; ++r) {
    Require(std::is_sorted(problem.id + problem.begin[r], problem.id + problem.begin[r + 1]),
            "ids of a row must ascend");
  }
  return problem;
}

double CostOf(const RescoreProblem& p) {
  return static_cast<double>(p.begin[p.rows]) * static_cast<double>(p.features);
}

void RunRescore(const py::object& hidden, const py::object& weight, const py::object& bias, const py::object& begin,
                const py::object& ids, const py::object& scores, const py::object& errors) {
  RescoreProblem problem = AsProblem(hidden, weight, bias, begin, ids);
  const auto entries = static_cast<npy_intp>(problem.begin[problem.rows]);
  problem.score = Results<double>(scores, NPY_DOUBLE, entries, "scores must be float64, one per id");
  problem.error = Results<double>(errors, NPY_DOUBLE, entries, "errors must be float64, one per id");
  Detached(CostOf(problem), [&] { Rescore(problem); });
}

template <class T>
T* Matrix(const py::handle& value, int type, npy_intp rows, npy_intp columns, const char* what) {
  PyArrayObject* array = Contiguous(value, type, 2, what);
  Require(PyArray_DIM(array, 0) == rows && PyArray_DIM(array, 1) == columns && PyArray_ISWRITEABLE(array) != 0, what);
  return DataOf<T>(array);
}

void RunRescoredTop(const py::object& hidden, const py::object& weight, const py::object& bias, const py::object& begin,
                    const py::object& ids, const py::object& lower, const py::object& upper, size_t most,
                    const py::tuple& top, const py::object& proven, const py::object& rescored) {
  RescoredTopProblem problem = {};
  problem.logits = AsProblem(hidden, weight, bias, begin, ids);
  const auto rows = static_cast<npy_intp>(problem.logits.rows);
  const auto entries = static_cast<npy_intp>(problem.logits.begin[rows]);
  problem.lower = Vector<double>(lower, NPY_DOUBLE, entries, "lower must be float64, one per id");
  problem.upper = Vector<double>(upper, NPY_DOUBLE, entries, "upper must be float64, one per id");
  problem.most = most;
  Require(top.size() == 3, "ids, scores and errors are needed");
  PyArrayObject* found = Contiguous(top[0], NPY_INT64, 2, "a matrix of ids is needed");
  const npy_intp k = PyArray_DIM(found, 1);
  problem.k = static_cast<size_t>(k);
  problem.id = Matrix<int64_t>(top[0], NPY_INT64, rows, k, "a matrix of ids is needed");
  problem.score = Matrix<double>(top[1], NPY_DOUBLE, rows, k, "a matrix of scores is needed");
  problem.error = Matrix<double>(top[2], NPY_DOUBLE, rows, k, "a matrix of errors is needed");
  problem.proven = Results<uint8_t>(proven, NPY_UINT8, rows, "proven must be uint8, one per row");
  problem.rescored = Results<int64_t>(rescored, NPY_INT64, rows, "rescored must be int64, one per row");
  for (npy_intp r = 0; r < rows; ++r) {
    Require(problem.logits.begin[r + 1] - problem.logits.begin[r] >= k, "a row has fewer than k candidates");
  }
  Detached(CostOf(problem.logits), [&] { RescoredTop(problem); });
}

// The winners' rows, ids, noise and upper bounds of their keys.
py::tuple RunWinners(const py::object& lower_object, const py::object& upper_object, size_t first, uint64_t key,
                     uint64_t first_row, const py::object& best_object) {
  PyArrayObject* lower = Contiguous(lower_object, NPY_DOUBLE, 2, "lower must be a float64 matrix in C order");
  PyArrayObject* upper = Contiguous(upper_object, NPY_DOUBLE, 2, "upper must be a float64 matrix in C order");
  Require(PyArray_SAMESHAPE(lower, upper), "lower and upper must have one shape");
  Require(first % 4 == 0, "first must be a multiple of 4");
  const npy_intp rows = PyArray_DIM(lower, 0);
  auto* best = Results<double>(best_object, NPY_DOUBLE, rows, "best must be float64, one per row");
  const IntervalTile tile = {DataOf<double>(lower), DataOf<double>(upper), static_cast<size_t>(rows),
                             static_cast<size_t>(PyArray_DIM(lower, 1)), first};
  std::vector<PossibleWinner> found;
  Detached(EstimateNanoseconds(tile.rows * tile.n, DType::kFloat64),
           [&] { FindWinners(tile, key, first_row, best, found); });
  npy_intp size = static_cast<npy_intp>(found.size());
  const auto column = [&](int type) { return py::reinterpret_steal<py::object>(PyArray_SimpleNew(1, &size, type)); };
  const py::object row = column(NPY_INT64), id = column(NPY_INT64), noise = column(NPY_DOUBLE),
                   bound = column(NPY_DOUBLE);
  if (!row || !id || !noise || !bound) throw py::error_already_set();
  for (size_t i = 0; i < found.size(); ++i) {
    DataOf<int64_t>(AsArray(row, "row"))[i] = found[i].row;
    DataOf<int64_t>(AsArray(id, "id"))[i] = found[i].id;
    DataOf<double>(AsArray(noise, "noise"))[i] = found[i].noise;
    DataOf<double>(AsArray(bound, "bound"))[i] = found[i].upper;
  }
  return py::make_tuple(row, id, noise, bound);
}

}  // namespace

void BindRescoring(py::module_& module) {
  module.def("linear_rescore", RunRescore, py::arg("hidden"), py::arg("weight"), py::arg("bias"), py::arg("indptr"),
             py::arg("ids"), py::arg("scores"), py::arg("errors"));
  module.def("linear_rescored_top", RunRescoredTop, py::arg("hidden"), py::arg("weight"), py::arg("bias"),
             py::arg("indptr"), py::arg("ids"), py::arg("lower"), py::arg("upper"), py::arg("most"), py::arg("top"),
             py::arg("proven"), py::arg("rescored"));
  module.def("linear_winners", RunWinners, py::arg("lower"), py::arg("upper"), py::arg("first"), py::arg("key"),
             py::arg("first_row"), py::arg("best"));
}

}  // namespace boltzmax
