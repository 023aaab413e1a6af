#include "quantised.hpp"

#include "../../cpp/core/quantised/encode.hpp"
#include "../../cpp/core/quantised/search.hpp"
#include "../../cpp/core/quantised/split.hpp"
#include "../../cpp/core/quantised/winners.hpp"
#include "../../cpp/core/runtime/quantised_table.hpp"
#include "checks.hpp"
#include "detached.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

template <class T>
T* NumbersOf(const py::handle& object, int type, size_t size) {
  PyArrayObject* array = AsArray(object, "an operand");
  Require(PyArray_TYPE(array) == type && PyArray_ISCARRAY_RO(array) && static_cast<size_t>(PyArray_SIZE(array)) == size,
          "an array of a quantised layer does not fit it");
  return static_cast<T*>(PyArray_DATA(array));
}

// (bits, classes, features, width, section, groups, codes, scale, error, norm, bias, bias_above, ratio, moderate, floats)
QuantisedLayer AsLayer(const py::tuple& parts) {
  Require(parts.size() == 15, "fifteen parts of the layer are needed");
  QuantisedLayer layer = {};
  layer.bits = parts[0].cast<int>();
  layer.classes = parts[1].cast<size_t>();
  layer.features = parts[2].cast<size_t>();
  layer.width = parts[3].cast<size_t>();
  layer.section = parts[4].cast<size_t>();
  layer.groups = parts[5].cast<size_t>();
  const bool whole = layer.bits == 4 || layer.bits == 8;
  Require(whole || layer.bits == 16, "weights have 4, 8 or 16 bits");
  Require(layer.section > 0 && layer.features > 0 && layer.features <= layer.width, "no features");
  Require(!whole || (layer.width % 4 == 0 && layer.section % 8 == 0 && layer.section <= 512), "no whole sections");
  Require(layer.bits != 4 || layer.width % 8 == 0, "no whole steps");
  Require(layer.groups == 1 || layer.groups == layer.Sections(), "groups must be sections");
  layer.blocks = (layer.classes + kClassLanes - 1) / kClassLanes;
  const size_t padded = layer.blocks * kClassLanes;
  if (whole) {
    layer.codes = NumbersOf<uint8_t>(parts[6], NPY_UINT8, layer.blocks * layer.BlockBytes());
  } else {
    layer.codes = NumbersOf<uint8_t>(parts[6], NPY_UINT16, padded * layer.width);
  }
  layer.scale = NumbersOf<float>(parts[7], NPY_FLOAT, padded * layer.groups);
  layer.error = NumbersOf<float>(parts[8], NPY_FLOAT, padded);
  layer.norm = NumbersOf<float>(parts[9], NPY_FLOAT, padded);
  layer.bias = NumbersOf<double>(parts[10], NPY_DOUBLE, padded);
  layer.bias_above = NumbersOf<float>(parts[11], NPY_FLOAT, padded);
  layer.ratio = parts[12].cast<double>();
  layer.moderate = parts[13].cast<bool>();
  layer.floats = !whole || parts[14].cast<bool>();
  if (!whole) layer.section = layer.width;  // in one sum
  return layer;
}

HiddenRows AsHidden(const QuantisedLayer& layer, const py::object& x, double rounding, bool few_bits) {
  PyArrayObject* array = AsArray(x, "hidden");
  Require(PyArray_NDIM(array) == 2, "hidden must be a matrix");
  const auto rows = static_cast<size_t>(PyArray_DIM(array, 0));
  const auto* at = NumbersOf<double>(x, NPY_DOUBLE, rows * layer.features);
  return {layer, at, rows, rounding, few_bits ? HiddenBits::k8 : HiddenBits::k16};
}

// For layers of this form.
HiddenRows MakeRows(const py::tuple& parts, const py::object& x, double rounding, bool few_bits) {
  return AsHidden(AsLayer(parts), x, rounding, few_bits);
}

QuantisedLayer AsLayerFor(const HiddenRows& hidden, const py::tuple& parts) {
  const QuantisedLayer layer = AsLayer(parts);
  Require(hidden.Fits(layer), "hidden vectors were prepared for another layer");
  return layer;
}

void RequireClasses(const QuantisedLayer& layer, size_t first, size_t last) {
  Require(first <= last && last <= layer.classes, "no such classes");
}

// Encodes rows of weights from class `first` on; returns the first row that is refused, or their number.
size_t RunEncode(const py::tuple& parts, const py::object& weight, size_t first, double rounding) {
  const QuantisedLayer layer = AsLayer(parts);
  PyArrayObject* array = AsArray(weight, "weight");
  Require(PyArray_NDIM(array) == 2, "weight must be a matrix");
  const auto rows = static_cast<size_t>(PyArray_DIM(array, 0));
  const auto* at = NumbersOf<double>(weight, NPY_DOUBLE, rows * layer.features);
  Require(first % kClassLanes == 0 && first + rows <= layer.classes, "no such classes");
  const auto writable = [&](size_t i) { return PyArray_DATA(AsArray(parts[i], "an operand")); };
  const LayerArrays to = {static_cast<uint8_t*>(writable(6)), static_cast<float*>(writable(7)),
                          static_cast<float*>(writable(8)), static_cast<float*>(writable(9))};
  for (size_t i = 6; i < 10; ++i) Require(PyArray_ISWRITEABLE(AsArray(parts[i], "an operand")), "read-only");
  size_t refused = rows;
  Detached([&] { refused = Encode(layer, to, at, first, rows, rounding); });
  return refused;
}

void RunCenters(const py::tuple& parts, const HiddenRows& hidden, size_t first, size_t last, const py::object& z) {
  const QuantisedLayer layer = AsLayerFor(hidden, parts);
  RequireClasses(layer, first, last);
  auto* at = NumbersOf<double>(z, NPY_DOUBLE, hidden.Count() * (last - first));
  Detached(EstimateNanoseconds(layer, hidden.Count(), last - first),
           [&] { AllCenters(layer, hidden, first, last, at); });
}

void RunIntervals(const py::tuple& parts, const HiddenRows& hidden, size_t first, size_t last, const py::object& lower,
                  const py::object& upper) {
  const QuantisedLayer layer = AsLayerFor(hidden, parts);
  RequireClasses(layer, first, last);
  const size_t size = hidden.Count() * (last - first);
  auto *low = NumbersOf<double>(lower, NPY_DOUBLE, size), *high = NumbersOf<double>(upper, NPY_DOUBLE, size);
  Detached(EstimateNanoseconds(layer, hidden.Count(), last - first),
           [&] { AllIntervals(layer, hidden, first, last, low, high); });
}

// (by_error, by_norm, vanished) of each row.
void RunRowBounds(const HiddenRows& hidden, const py::object& bounds) {
  auto* at = NumbersOf<double>(bounds, NPY_DOUBLE, 3 * hidden.Count());
  for (size_t r = 0; r < hidden.Count(); ++r) {
    const RowBounds& row = hidden.Bounds(r);
    at[3 * r] = row.by_error;
    at[3 * r + 1] = row.by_norm;
    at[3 * r + 2] = row.vanished;
  }
}

py::object NewVector(int type, size_t size) {
  const auto n = static_cast<npy_intp>(size);
  PyObject* array = PyArray_SimpleNew(1, &n, type);
  if (array == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(array);
}
template <class T>
T* DataOf(const py::object& array) {
  return static_cast<T*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array.ptr())));
}

// (indptr, ids, lower, upper)
py::tuple InRows(const std::vector<std::vector<BoundedClass>>& found) {
  size_t total = 0;
  for (const auto& row : found) total += row.size();
  const py::object indptr = NewVector(NPY_INT64, found.size() + 1), ids = NewVector(NPY_INT64, total);
  const py::object lower = NewVector(NPY_DOUBLE, total), upper = NewVector(NPY_DOUBLE, total);
  auto *begin = DataOf<int64_t>(indptr), *id = DataOf<int64_t>(ids);
  auto *low = DataOf<double>(lower), *high = DataOf<double>(upper);
  *begin = 0;
  for (const auto& row : found) {
    begin[1] = *begin + static_cast<int64_t>(row.size());
    ++begin;
    for (const BoundedClass& c : row) {
      *id++ = c.id;
      *low++ = c.logit.lower;
      *high++ = c.logit.upper;
    }
  }
  return py::make_tuple(indptr, ids, lower, upper);
}

py::tuple RunCandidates(const py::tuple& parts, const HiddenRows& hidden, size_t k) {
  const QuantisedLayer layer = AsLayerFor(hidden, parts);
  Require(k > 0 && k <= layer.classes, "no such rank");
  std::vector<std::vector<BoundedClass>> found;
  Detached(EstimateNanoseconds(layer, hidden.Count(), layer.classes),
           [&] { found = FindCandidates(layer, hidden, k); });
  return InRows(found);
}

// (indptr, ids, noise)
py::tuple RunWinners(const py::tuple& parts, const HiddenRows& hidden, bool stored, uint64_t key, uint64_t first_row) {
  const QuantisedLayer layer = AsLayerFor(hidden, parts);
  std::vector<std::vector<PossibleWinner>> found;
  Detached(EstimateNanoseconds(layer, hidden.Count(), layer.classes),
           [&] { found = FindWinners(layer, hidden, stored ? Logits::kStored : Logits::kExact, key, first_row); });
  size_t total = 0;
  for (const auto& row : found) total += row.size();
  const py::object indptr = NewVector(NPY_INT64, found.size() + 1), ids = NewVector(NPY_INT64, total);
  const py::object noise = NewVector(NPY_DOUBLE, total);
  auto *begin = DataOf<int64_t>(indptr), *id = DataOf<int64_t>(ids);
  auto* of_id = DataOf<double>(noise);
  *begin = 0;
  for (const auto& row : found) {
    begin[1] = *begin + static_cast<int64_t>(row.size());
    ++begin;
    for (const PossibleWinner& winner : row) {
      *id++ = winner.id;
      *of_id++ = winner.noise;
    }
  }
  return py::make_tuple(indptr, ids, noise);
}

// Classes above a row's bar, in compressed rows; and the bounds of the logsumexp of the others. The levels are (upper,
// gap, budget, allowed, share), or None.
py::tuple RunSplit(const py::tuple& parts, const HiddenRows& hidden, const py::object& bar, const py::object& levels) {
  const QuantisedLayer layer = AsLayerFor(hidden, parts);
  const size_t rows = hidden.Count();
  SplitProblem problem = {};
  problem.bar = NumbersOf<double>(bar, NPY_DOUBLE, rows);
  if (!levels.is_none()) {
    const auto parts_of = levels.cast<py::tuple>();
    Require(parts_of.size() == 5, "five parts of the levels are needed");
    PyArrayObject* upper = AsArray(parts_of[0], "levels");
    Require(PyArray_NDIM(upper) == 2, "levels must be a matrix");
    problem.n = static_cast<size_t>(PyArray_DIM(upper, 1));
    problem.upper = NumbersOf<double>(parts_of[0], NPY_DOUBLE, rows * problem.n);
    problem.gap = NumbersOf<double>(parts_of[1], NPY_DOUBLE, rows * problem.n);
    problem.budget = parts_of[2].cast<double>();
    problem.allowed = parts_of[3].cast<double>();
    problem.share = parts_of[4].cast<double>();
  }
  std::vector<RowParts> found;
  Detached(EstimateNanoseconds(layer, rows, layer.classes), [&] { found = Split(layer, hidden, problem); });
  std::vector<std::vector<BoundedClass>> above;
  const py::object lower = NewVector(NPY_DOUBLE, rows), upper = NewVector(NPY_DOUBLE, rows);
  for (size_t r = 0; r < rows; ++r) {
    DataOf<double>(lower)[r] = found[r].rest.lower;
    DataOf<double>(upper)[r] = found[r].rest.upper;
    above.push_back(std::move(found[r].above));
  }
  return py::make_tuple(InRows(above), lower, upper);
}
}  // namespace

void BindQuantised(py::module_& module) {
  module.def("quantised_encode", RunEncode, py::arg("layer"), py::arg("weight"), py::arg("first"), py::arg("rounding"));
  py::class_<HiddenRows>(module, "QuantisedRows")
      .def(py::init(&MakeRows), py::arg("layer"), py::arg("x"), py::arg("rounding"), py::arg("few_bits"));
  module.def("quantised_centers", RunCenters, py::arg("layer"), py::arg("rows"), py::arg("first"), py::arg("last"),
             py::arg("z"));
  module.def("quantised_intervals", RunIntervals, py::arg("layer"), py::arg("rows"), py::arg("first"), py::arg("last"),
             py::arg("lower"), py::arg("upper"));
  module.def("quantised_row_bounds", RunRowBounds, py::arg("rows"), py::arg("bounds"));
  module.def("quantised_candidates", RunCandidates, py::arg("layer"), py::arg("rows"), py::arg("k"));
  module.def("quantised_winners", RunWinners, py::arg("layer"), py::arg("rows"), py::arg("stored"), py::arg("key"),
             py::arg("first_row"));
  module.def("quantised_split", RunSplit, py::arg("layer"), py::arg("rows"), py::arg("bar"), py::arg("levels"));
  module.def("quantised_table", [] { return ActiveQuantised().name; });
  module.def("use_dot_products", UseDotProducts, py::arg("use"));
  module.def("uses_dot_products", UsesDotProducts);
}

}  // namespace boltzmax
