#include "sampling.hpp"

#include <pybind11/stl.h>

#include <array>
#include <deque>
#include <string>
#include <vector>

#include "../../cpp/core/runtime/row_blocks.hpp"
#include "../../cpp/core/sampling/sampling.hpp"
#include "checks.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

constexpr std::array kFilterNames = {"temperature", "top_k", "top_p",       "min_p", "typical_p",
                                     "epsilon",     "eta",   "top_n_sigma", "top_h", "xtc"};

Filter FilterNamed(const std::string& name) {
  for (size_t i = 0; i < kFilterNames.size(); ++i) {
    if (name == kFilterNames[i]) return static_cast<Filter>(i);
  }
  throw py::value_error("no filter is called " + name);
}

template <class T>
T* DataOf(PyArrayObject* array, int type, npy_intp size, const char* what) {
  Require(PyArray_TYPE(array) == type && PyArray_SIZE(array) == size && PyArray_ISCARRAY_RO(array), what);
  return reinterpret_cast<T*>(PyArray_DATA(array));
}

// Whether 32 bits hold all ids.
bool Fits(npy_intp classes) { return static_cast<uint64_t>(classes) <= uint64_t{0xffffffff}; }

// The arguments that both calls have. Keeps the numbers of lines.
class Call {
 public:
  Call(const py::object& x_object, const py::object& mask_object, const py::list& biases, const py::list& lines,
       uint64_t key, const py::object& counters_object, const py::object& state_object) {
    PyArrayObject* x = AsArray(x_object, "x");
    Require(PyArray_NDIM(x) == 2 && PyArray_ISCARRAY_RO(x), "x must be a matrix in C order");
    problem.storage = RequireDType(x);
    Require(HasKernels(problem.storage), "x must be a float that kernels read");
    problem.x = PyArray_BYTES(x);
    problem.row_stride = PyArray_STRIDE(x, 0);
    problem.rows = static_cast<size_t>(PyArray_DIM(x, 0));
    problem.n = static_cast<size_t>(PyArray_DIM(x, 1));
    Require(Fits(PyArray_DIM(x, 1)), "there may be at most 2**32 - 1 classes");
    if (PyArrayObject* mask = AsOptionalArray(mask_object, "mask")) {
      Require(PyArray_TYPE(mask) == NPY_BOOL && PyArray_NDIM(mask) == 2 && PyArray_SAMESHAPE(mask, x),
              "mask does not fit x");
      problem.mask = reinterpret_cast<const uint8_t*>(PyArray_BYTES(mask));
      problem.mask_row_stride = PyArray_STRIDE(mask, 0);
      problem.mask_stride = PyArray_STRIDE(mask, 1);
    }
    for (const py::handle& bias : biases) AddBias(bias, x);
    for (const py::handle& line : lines) AddLine(py::cast<py::tuple>(line));
    problem.biases = biases_.data();
    problem.bias_count = biases_.size();
    problem.lines = lines_.data();
    problem.line_count = lines_.size();
    problem.key = key;
    const auto rows = static_cast<npy_intp>(problem.rows);
    if (PyArrayObject* counters = AsOptionalArray(counters_object, "counters")) {
      problem.counters = DataOf<uint64_t>(counters, NPY_UINT64, rows, "counters does not fit x");
    }
    problem.state = DataOf<RowState>(AsArray(state_object, "state"), NPY_UINT8, rows, "state does not fit x");
  }

  double Cost() const { return EstimateNanoseconds(problem.rows, problem.n, problem.storage); }

  SampleProblem problem = {};

 private:
  // An array, broadcast to x, or a pair of ids and values.
  void AddBias(const py::handle& bias, PyArrayObject* x) {
    if (py::isinstance<py::tuple>(bias)) {
      const auto pair = py::cast<py::tuple>(bias);
      PyArrayObject* ids = AsArray(pair[0], "ids");
      const npy_intp count = PyArray_SIZE(ids);
      biases_.push_back({DataOf<const double>(AsArray(pair[1], "values"), NPY_DOUBLE, count, "values does not fit ids"),
                         DataOf<const int64_t>(ids, NPY_INT64, count, "ids must be int64"), static_cast<size_t>(count),
                         0, 0});
      return;
    }
    PyArrayObject* array = AsArray(bias, "bias");
    Require(PyArray_TYPE(array) == NPY_DOUBLE && PyArray_NDIM(array) == 2 && PyArray_SAMESHAPE(array, x) &&
                PyArray_ISALIGNED(array),
            "bias does not fit x");
    biases_.push_back({reinterpret_cast<const double*>(PyArray_DATA(array)), nullptr, 0, PyArray_STRIDE(array, 0),
                       PyArray_STRIDE(array, 1)});
  }

  void AddLine(const py::tuple& line) {
    lines_.push_back(
        {FilterNamed(py::cast<std::string>(line[0])), Numbers(line[1]), Numbers(line[2]), py::cast<int>(line[3])});
  }

  RowNumbers Numbers(const py::handle& value) {
    if (PyArray_Check(value.ptr())) {
      auto* array = reinterpret_cast<PyArrayObject*>(value.ptr());
      return {DataOf<const double>(array, NPY_DOUBLE, static_cast<npy_intp>(problem.rows), "a number does not fit x"),
              true};
    }
    scalars_.push_back(py::cast<double>(value));
    return {&scalars_.back(), false};
  }

  std::deque<double> scalars_;  // whose elements stay where they are
  std::vector<FilterLine> lines_;
  std::vector<BiasTerms> biases_;
};

void SampleInto(const py::object& x, const py::object& mask, const py::list& biases, const py::list& lines,
                uint64_t key, const py::object& counters, const py::object& state, bool replace,
                const py::object& ids_object, const py::object& log_probs, const py::object& kept) {
  Call call(x, mask, biases, lines, key, counters, state);
  SampleProblem& problem = call.problem;
  PyArrayObject* ids = AsArray(ids_object, "ids");
  Require(PyArray_NDIM(ids) == 2 && PyArray_DIM(ids, 0) == static_cast<npy_intp>(problem.rows), "ids does not fit x");
  problem.draws = static_cast<size_t>(PyArray_DIM(ids, 1));
  problem.replace = replace;
  const npy_intp size = PyArray_SIZE(ids);
  problem.id = DataOf<int64_t>(ids, NPY_INT64, size, "ids must be int64");
  problem.log_prob = DataOf<double>(AsArray(log_probs, "log_probs"), NPY_DOUBLE, size, "log_probs does not fit ids");
  problem.kept =
      DataOf<int64_t>(AsArray(kept, "kept"), NPY_INT64, static_cast<npy_intp>(problem.rows), "kept does not fit x");
  Detached(call.Cost(), [&] { SampleRows(problem); });
}

void FilterInto(const py::object& x, const py::object& mask, const py::list& biases, const py::list& lines,
                uint64_t key, const py::object& counters, const py::object& state, const py::object& y_object,
                bool probabilities) {
  Call call(x, mask, biases, lines, key, counters, state);
  PyArrayObject* y = AsArray(y_object, "y");
  Require(PyArray_ISCARRAY(y) && RequireDType(y) == call.problem.storage && PyArray_SAMESHAPE(y, AsArray(x, "x")),
          "y does not fit x");
  call.problem.y = PyArray_BYTES(y);
  call.problem.probabilities = probabilities;
  Detached(call.Cost(), [&] { FilterRows(call.problem); });
}

// ---- the ordinary call ----

// A number of a step, or none.
struct PlainNumber {
  bool is_given = false;
  double value = 0.0;
};

// None or an exact float or int; false for anything else, which the general path reads.
bool ReadNumber(PyObject* object, PlainNumber* number) {
  if (object == Py_None) return true;
  number->is_given = true;
  if (PyFloat_CheckExact(object)) {
    number->value = PyFloat_AS_DOUBLE(object);
    return true;
  }
  int overflow = 0;
  if (!PyLong_CheckExact(object)) return false;
  number->value = static_cast<double>(PyLong_AsLongLongAndOverflow(object, &overflow));
  return overflow == 0;
}

// (logits, temperature, top_k, top_p, min_p, rng, n): a tuple of ids, log-probabilities and counts, or None if the call is
// not ordinary or not right; the general path then answers it, or raises the error.
PyObject* PlainSample(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  PlainNumber temperature, k, p, m, draws;
  const bool is_usual = nargs == 7 && PyArray_CheckExact(args[0]) && PyLong_CheckExact(args[5]) &&
                        ReadNumber(args[1], &temperature) && ReadNumber(args[2], &k) && ReadNumber(args[3], &p) &&
                        ReadNumber(args[4], &m) && ReadNumber(args[6], &draws);
  if (!is_usual) Py_RETURN_NONE;
  auto* x = reinterpret_cast<PyArrayObject*>(args[0]);
  const int ndim = PyArray_NDIM(x);
  const auto storage = DTypeOf(x);
  const double t = temperature.value;
  const bool is_right = temperature.is_given && (t == 0.0 || (t >= 1e-30 && t <= 1e30)) &&
                        (!k.is_given || (PyLong_CheckExact(args[2]) && k.value >= 1.0)) &&
                        (!p.is_given || (p.value > 0.0 && p.value <= 1.0)) &&
                        (!m.is_given || (m.value >= 0.0 && m.value <= 1.0)) &&
                        (!draws.is_given || (PyLong_CheckExact(args[6]) && draws.value >= 1.0 && draws.value <= 1e9));
  if (!is_right || (ndim != 1 && ndim != 2) || !storage || !HasKernels(*storage) || !PyArray_ISCARRAY_RO(x) ||
      PyArray_SIZE(x) == 0 || !Fits(PyArray_DIM(x, ndim - 1))) {
    Py_RETURN_NONE;
  }
  const uint64_t key = PyLong_AsUnsignedLongLong(args[5]);
  if (key == static_cast<uint64_t>(-1) && PyErr_Occurred()) {
    PyErr_Clear();
    Py_RETURN_NONE;
  }
  SampleProblem problem = {};
  problem.storage = *storage;
  problem.x = PyArray_BYTES(x);
  problem.rows = ndim == 1 ? 1 : static_cast<size_t>(PyArray_DIM(x, 0));
  problem.n = static_cast<size_t>(PyArray_DIM(x, ndim - 1));
  problem.row_stride = static_cast<ptrdiff_t>(problem.n * ItemSize(*storage));
  std::array<FilterLine, 4> lines = {};
  const auto add = [&](Filter filter, const PlainNumber& number) {
    if (number.is_given) lines[problem.line_count++] = {filter, {&number.value, false}, {&number.value, false}, 0};
  };
  if (t != 1.0) add(Filter::kTemperature, temperature);
  add(Filter::kTopK, k);
  add(Filter::kTopP, p);
  add(Filter::kMinP, m);
  problem.lines = lines.data();
  problem.key = key;
  problem.draws = draws.is_given ? static_cast<size_t>(draws.value) : 1;
  problem.replace = true;
  // Of a matrix, or of one row; the number of draws is a last axis if it is given.
  npy_intp shape[2] = {static_cast<npy_intp>(problem.rows), static_cast<npy_intp>(problem.draws)};
  npy_intp* const from = shape + (2 - ndim);
  const auto make = [&](int dimensions, int type) {
    return py::reinterpret_steal<py::object>(PyArray_SimpleNew(dimensions, from, type));
  };
  const int drawn = ndim - 1 + (draws.is_given ? 1 : 0);
  const py::object ids = make(drawn, NPY_INT64), log_probs = make(drawn, NPY_DOUBLE), kept = make(ndim - 1, NPY_INT64);
  if (!ids || !log_probs || !kept) return nullptr;
  const auto data = [](const py::object& array) { return PyArray_DATA(reinterpret_cast<PyArrayObject*>(array.ptr())); };
  problem.id = static_cast<int64_t*>(data(ids));
  problem.log_prob = static_cast<double*>(data(log_probs));
  problem.kept = static_cast<int64_t*>(data(kept));
  std::array<RowState, 16> few_states;
  std::vector<RowState> more_states;
  problem.state = few_states.data();
  const auto run = [&] {
    if (problem.rows > few_states.size()) {
      more_states.resize(problem.rows);
      problem.state = more_states.data();
    }
    SampleRows(problem);
  };
  if (!RunDetached(EstimateNanoseconds(problem.rows, problem.n, *storage), run)) return nullptr;
  for (size_t r = 0; r < problem.rows; ++r) {
    if (problem.state[r] == RowState::kBad) Py_RETURN_NONE;
  }
  const auto result = [](const py::object& array) {
    return PyArray_Return(reinterpret_cast<PyArrayObject*>(array.inc_ref().ptr()));
  };
  return Py_BuildValue("NNN", result(ids), result(log_probs), result(kept));
}

PyMethodDef plain_methods[] = {{"plain_sample", AsCFunction(PlainSample), METH_FASTCALL, nullptr},
                               {nullptr, nullptr, 0, nullptr}};

}  // namespace

void BindSampling(py::module_& module) {
  if (PyModule_AddFunctions(module.ptr(), plain_methods) < 0) throw py::error_already_set();
  module.def("sample", SampleInto, py::arg("x"), py::arg("mask"), py::arg("biases"), py::arg("lines"), py::arg("key"),
             py::arg("counters"), py::arg("state"), py::arg("replace"), py::arg("ids"), py::arg("log_probs"),
             py::arg("kept"));
  module.def("filter_logits", FilterInto, py::arg("x"), py::arg("mask"), py::arg("biases"), py::arg("lines"),
             py::arg("key"), py::arg("counters"), py::arg("state"), py::arg("y"), py::arg("probabilities"));
}

}  // namespace boltzmax
