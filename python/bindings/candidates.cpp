#include "candidates.hpp"

#include <algorithm>
#include <memory>

#include "../../cpp/core/candidates/alias.hpp"
#include "../../cpp/core/candidates/draws.hpp"
#include "../../cpp/core/candidates/quadratic_tree.hpp"
#include "checks.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

size_t Length(PyArrayObject* array, int axis = 0) { return static_cast<size_t>(PyArray_DIM(array, axis)); }

template <class T>
T* Vector(const py::handle& object, int type, size_t length, const char* what) {
  PyArrayObject* array = AsArray(object, "an operand");
  T* data = DataOf<T>(array, type, 1, what);
  Require(Length(array) == length, what);
  return data;
}

// Slots of the alias method, with or without logarithms.
template <class Slot>
Slot* Slots(const py::handle& object) {
  PyArrayObject* slots = AsArray(object, "slots");
  Require(PyArray_ITEMSIZE(slots) == sizeof(Slot), "slots must be structs of the right size");
  return DataOf<Slot>(slots, NPY_VOID, 1, "slots must be a vector of structs");
}
template <class Slot>
Slot* Slots(const py::handle& object, size_t classes) {
  Slot* slots = Slots<Slot>(object);
  Require(Length(AsArray(object, "slots")) == classes, "there must be one slot per class");
  return slots;
}

// With log_p, the slots have room for logarithms.
void RunBuildAlias(const py::object& weights_object, const py::object& log_p_object, const py::object& slots) {
  PyArrayObject* weights = AsArray(weights_object, "weights");
  const auto* data = DataOf<double>(weights, NPY_DOUBLE, 1, "weights must be a vector of doubles");
  const size_t classes = Length(weights);
  if (log_p_object.is_none()) {
    AliasSlot* to = Slots<AliasSlot>(slots, classes);
    Detached([&] { BuildAlias(data, classes, to); });
  } else {
    const auto* log_p = Vector<double>(log_p_object, NPY_DOUBLE, classes, "log_p must be doubles, one per class");
    TableSlot* to = Slots<TableSlot>(slots, classes);
    Detached([&] { BuildTable(data, log_p, classes, to); });
  }
}

// ("uniform", V), ("log_uniform", V), ("table", slots) or ("counted", slots, recent, counts, smoothing, total);
// and the number of classes.
struct ReadProposal {
  std::unique_ptr<Proposal> proposal;
  size_t classes;

  explicit ReadProposal(const py::tuple& parts) {
    const auto kind = parts[0].cast<std::string>();
    if (kind == "uniform") {
      classes = parts[1].cast<size_t>();
      proposal = std::make_unique<UniformProposal>(classes);
    } else if (kind == "log_uniform") {
      classes = parts[1].cast<size_t>();
      proposal = std::make_unique<LogUniformProposal>(classes);
    } else if (kind == "table") {
      classes = Length(AsArray(parts[1], "slots"));
      proposal = std::make_unique<TableProposal>(Slots<TableSlot>(parts[1]), classes);
    } else {
      Require(kind == "counted", "no such proposal");
      PyArrayObject* recent = AsArray(parts[2], "recent");
      PyArrayObject* counts = AsArray(parts[3], "counts");
      classes = Length(counts);
      CountedClasses counted = {};
      counted.slots = parts[1].is_none() ? nullptr : Slots<AliasSlot>(parts[1], classes);
      counted.recent = DataOf<int64_t>(recent, NPY_INT64, 1, "recent must be a vector of int64");
      counted.recent_count = Length(recent);
      counted.counts = DataOf<int64_t>(counts, NPY_INT64, 1, "counts must be a vector of int64");
      counted.classes = classes;
      counted.smoothing = parts[4].cast<double>();
      counted.total = parts[5].cast<double>();
      proposal = std::make_unique<CountedProposal>(counted);
    }
  }
};

ExcludedClasses ReadExcluded(const py::object& ids, const py::object& offsets, size_t rows) {
  if (ids.is_none()) return {};
  const auto* begin = Vector<int64_t>(offsets, NPY_INT64, rows + 1, "offsets must be int64, one more than rows");
  const size_t size = static_cast<size_t>(begin[rows]);
  return {Vector<int64_t>(ids, NPY_INT64, size, "excluded ids must be a vector of int64"), begin};
}

// A matrix of ids, and a matrix of doubles of the same shape.
struct IdsAndNumbers {
  int64_t* ids;
  double* numbers;
  size_t rows, n;

  IdsAndNumbers(const py::object& ids_object, const py::object& numbers_object) {
    PyArrayObject* id_array = AsArray(ids_object, "ids");
    PyArrayObject* number_array = AsArray(numbers_object, "numbers");
    ids = DataOf<int64_t>(id_array, NPY_INT64, 2, "ids must be a matrix of int64 in C order");
    numbers = DataOf<double>(number_array, NPY_DOUBLE, 2, "results must be a matrix of doubles in C order");
    Require(PyArray_SAMESHAPE(id_array, number_array) && PyArray_ISWRITEABLE(number_array), "results do not fit ids");
    rows = Length(id_array);
    n = Length(id_array, 1);
  }

  void RequireClasses(size_t classes) const {
    const auto limit = static_cast<int64_t>(classes);
    Require(std::all_of(ids, ids + rows * n, [limit](int64_t id) { return id >= 0 && id < limit; }),
            "an id is out of range");
  }
};

constexpr double kCost = 10.0;  // of a draw, in nanoseconds

void RunDrawCandidates(const py::tuple& proposal, uint64_t key, uint64_t first_row, bool unique,
                       const py::object& excluded, const py::object& offsets, const py::object& shift,
                       const py::object& ids, const py::object& log_q) {
  const ReadProposal read(proposal);
  const IdsAndNumbers to(ids, log_q);
  CandidateProblem problem = {};
  problem.proposal = read.proposal.get();
  problem.key = key;
  problem.first_row = first_row;
  problem.rows = to.rows;
  problem.n = to.n;
  problem.excluded = ReadExcluded(excluded, offsets, to.rows);
  problem.unique = unique;
  problem.shift = Vector<double>(shift, NPY_DOUBLE, to.rows, "shift must be doubles, one per row");
  problem.ids = to.ids;
  problem.log_q = to.numbers;
  Detached(kCost * static_cast<double>(to.rows * to.n), [&] { DrawCandidates(problem); });
}

void RunCandidateLogP(const py::tuple& proposal, const py::object& ids, const py::object& log_p) {
  const ReadProposal read(proposal);
  const IdsAndNumbers to(ids, log_p);
  to.RequireClasses(read.classes);
  Detached(kCost * static_cast<double>(to.rows * to.n),
           [&] { CandidateLogP(*read.proposal, to.ids, to.rows * to.n, to.numbers); });
}

// ---- the tree of quadratic kernels ----

py::tuple QuadraticSize(size_t classes, size_t features) {
  const QuadraticShape shape(classes, features);
  return py::make_tuple(shape.leaf, shape.total, shape.packed);
}

template <class T>
QuadraticTree<T> ReadTree(PyArrayObject* weight, const py::object& sums_object) {
  PyArrayObject* sums = AsArray(sums_object, "sums");
  QuadraticTree<T> tree = {{Length(weight), Length(weight, 1)}, nullptr, nullptr};
  const int type = PyArray_TYPE(weight);
  tree.weight = DataOf<T>(weight, type, 2, "weight must be a matrix in C order");
  tree.sums = DataOf<T>(sums, type, 2, "sums must be a matrix of the weights' type");
  Require(Length(sums) == tree.shape.total && Length(sums, 1) == tree.shape.packed, "sums do not fit weight");
  return tree;
}

// Calls f with a float or a double.
template <class F>
void WithNumber(PyArrayObject* weight, F f) {
  Require(PyArray_NDIM(weight) == 2, "weight must be a matrix");
  if (PyArray_TYPE(weight) == NPY_FLOAT) return f(float());
  Require(PyArray_TYPE(weight) == NPY_DOUBLE, "weight must be float32 or float64");
  f(double());
}

void RunUpdateQuadratic(const py::object& weight_object, const py::object& sums, const py::object& leaves_object) {
  PyArrayObject* weight = AsArray(weight_object, "weight");
  PyArrayObject* leaves = AsOptionalArray(leaves_object, "leaves");
  WithNumber(weight, [&]<class T>(T) {
    const QuadraticTree<T> tree = ReadTree<T>(weight, sums);
    const int64_t* ids = nullptr;
    size_t count = 0;
    if (leaves != nullptr) {
      ids = DataOf<int64_t>(leaves, NPY_INT64, 1, "leaves must be a vector of int64");
      count = Length(leaves);
      const auto limit = static_cast<int64_t>(tree.shape.nodes[0]);
      Require(std::all_of(ids, ids + count, [limit](int64_t id) { return id >= 0 && id < limit; }),
              "a leaf is out of range");
    }
    Detached([&] { UpdateQuadratic(tree, ids, count); });
  });
}

// Runs f(query) for candidates of groups of rows of `hidden`.
template <class F>
void WithQuery(const py::object& weight_object, const py::object& sums, const py::object& hidden_object, double alpha,
               const IdsAndNumbers& to, F f) {
  PyArrayObject* weight = AsArray(weight_object, "weight");
  PyArrayObject* hidden = AsArray(hidden_object, "hidden");
  WithNumber(weight, [&]<class T>(T) {
    QuadraticQuery<T> query = {ReadTree<T>(weight, sums), nullptr, to.rows, 1, alpha, to.n, to.ids, to.numbers};
    query.hidden = DataOf<T>(hidden, PyArray_TYPE(weight), 2, "hidden must be a matrix of the weights' type");
    Require(Length(hidden, 1) == query.tree.shape.features && to.rows > 0 && Length(hidden) % to.rows == 0,
            "hidden does not fit weight and ids");
    query.group = Length(hidden) / to.rows;
    f(query);
  });
}

void RunDrawQuadratic(const py::object& weight, const py::object& sums, const py::object& hidden, double alpha,
                      uint64_t key, uint64_t first_row, const py::object& excluded_object, const py::object& offsets,
                      const py::object& ids, const py::object& log_p) {
  const IdsAndNumbers to(ids, log_p);
  const ExcludedClasses excluded = ReadExcluded(excluded_object, offsets, to.rows);
  WithQuery(weight, sums, hidden, alpha, to,
            [&](const auto& query) { Detached([&] { DrawQuadratic(query, key, first_row, excluded); }); });
}

void RunQuadraticLogP(const py::object& weight, const py::object& sums, const py::object& hidden, double alpha,
                      const py::object& ids, const py::object& log_p) {
  const IdsAndNumbers to(ids, log_p);
  WithQuery(weight, sums, hidden, alpha, to, [&](const auto& query) {
    to.RequireClasses(query.tree.shape.classes);
    Detached([&] { QuadraticLogP(query); });
  });
}

}  // namespace

void BindCandidates(py::module_& module) {
  module.def("build_alias", RunBuildAlias, py::arg("weights"), py::arg("log_p"), py::arg("slots"));
  module.def("draw_candidates", RunDrawCandidates, py::arg("proposal"), py::arg("key"), py::arg("first_row"),
             py::arg("unique"), py::arg("excluded"), py::arg("offsets"), py::arg("shift"), py::arg("ids"),
             py::arg("log_q"));
  module.def("candidate_log_p", RunCandidateLogP, py::arg("proposal"), py::arg("ids"), py::arg("log_p"));
  module.def("quadratic_size", QuadraticSize, py::arg("classes"), py::arg("features"));
  module.def("update_quadratic", RunUpdateQuadratic, py::arg("weight"), py::arg("sums"), py::arg("leaves"));
  module.def("draw_quadratic", RunDrawQuadratic, py::arg("weight"), py::arg("sums"), py::arg("hidden"),
             py::arg("alpha"), py::arg("key"), py::arg("first_row"), py::arg("excluded"), py::arg("offsets"),
             py::arg("ids"), py::arg("log_p"));
  module.def("quadratic_log_p", RunQuadraticLogP, py::arg("weight"), py::arg("sums"), py::arg("hidden"),
             py::arg("alpha"), py::arg("ids"), py::arg("log_p"));
}

}  // namespace boltzmax
