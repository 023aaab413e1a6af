#include "draws.hpp"

#include "../../cpp/core/runtime/row_blocks.hpp"
#include "../../cpp/core/variants/draws.hpp"
#include "checks.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

// Draws ids[row, d], and their scores if that is an array, from the rows of a matrix in C order.
void Draw(const py::object& x_object, const py::object& temperature_object, uint64_t key, uint64_t first_row,
          const py::object& ids_object, const py::object& scores_object) {
  PyArrayObject* x = AsArray(x_object, "x");
  PyArrayObject* temperature = AsOptionalArray(temperature_object, "temperature");
  PyArrayObject* ids = AsArray(ids_object, "ids");
  PyArrayObject* scores = AsOptionalArray(scores_object, "scores");
  const DType storage = RequireDType(x);
  Require(storage == DType::kFloat32 || storage == DType::kFloat64, "x must be float32 or float64");
  Require(PyArray_NDIM(x) == 2 && PyArray_ISCARRAY_RO(x), "x must be a matrix in C order");
  DrawProblem problem = {};
  problem.storage = storage;
  problem.x = PyArray_BYTES(x);
  problem.rows = static_cast<size_t>(PyArray_DIM(x, 0));
  problem.n = static_cast<size_t>(PyArray_DIM(x, 1));
  problem.key = key;
  problem.first_row = first_row;
  problem.id = DataOf<int64_t>(ids, NPY_INT64, 2, "ids must be an int64 matrix in C order");
  problem.draws = static_cast<size_t>(PyArray_DIM(ids, 1));
  Require(PyArray_DIM(ids, 0) == PyArray_DIM(x, 0) && PyArray_ISWRITEABLE(ids), "ids does not fit x");
  if (temperature != nullptr) {
    problem.temperature = DataOf<double>(temperature, NPY_DOUBLE, 1, "temperature must be a vector of doubles");
    Require(PyArray_DIM(temperature, 0) == PyArray_DIM(x, 0), "temperature does not fit x");
  }
  if (scores != nullptr) {
    problem.score = DataOf<double>(scores, NPY_DOUBLE, 2, "scores must be a matrix of doubles in C order");
    Require(PyArray_SAMESHAPE(scores, ids) && PyArray_ISWRITEABLE(scores), "scores does not fit ids");
  }
  const double cost = EstimateNanoseconds(problem.rows * (problem.n + problem.draws), storage);
  Detached(cost, [&] { scores == nullptr ? DrawClasses(problem) : DrawTop(problem); });
}

// Fills a matrix with uniform numbers, of elements `first` and following of each row.
void Uniform(uint64_t key, uint64_t first_row, uint64_t first, const py::object& u_object) {
  PyArrayObject* array = AsArray(u_object, "u");
  auto* u = DataOf<double>(array, NPY_DOUBLE, 2, "u must be a matrix of doubles in C order");
  Require(PyArray_ISWRITEABLE(array), "u is read-only");
  const auto rows = static_cast<size_t>(PyArray_DIM(array, 0)), count = static_cast<size_t>(PyArray_DIM(array, 1));
  Detached(10.0 * static_cast<double>(rows * count), [&] { UniformNumbers(key, first_row, rows, first, count, u); });
}

}  // namespace

void BindDraws(py::module_& module) {
  module.def("draw", Draw, py::arg("x"), py::arg("temperature"), py::arg("key"), py::arg("first_row"), py::arg("ids"),
             py::arg("scores"));
  module.def("uniform", Uniform, py::arg("key"), py::arg("first_row"), py::arg("first"), py::arg("u"));
}

}  // namespace boltzmax
