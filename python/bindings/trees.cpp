#include "trees.hpp"

#include <algorithm>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "../../cpp/core/trees/inference.hpp"
#include "../../cpp/core/trees/training.hpp"
#include "arrays.hpp"
#include "checks.hpp"
#include "detached.hpp"
#include "direct_trees.hpp"
#include "tree_handle.hpp"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

namespace py = pybind11;

namespace boltzmax {

namespace {

template <class T>
using Array = py::array_t<T, py::array::c_style>;
using Targets = Array<int64_t>;
using Doubles = Array<double>;

// An array that takes over the vector's memory.
template <class T>
py::array_t<T> ToArray(std::vector<T>&& values) {
  auto owner = std::make_unique<std::vector<T>>(std::move(values));
  std::vector<T>* kept = owner.release();
  const py::capsule free(kept, [](void* p) { delete static_cast<std::vector<T>*>(p); });
  return py::array_t<T>(static_cast<py::ssize_t>(kept->size()), kept->data(), free);
}

// The handle, and its arrays: parent, slot, child_begin, child, unit_begin, depth, origin.
py::tuple BuildTree(const Array<int64_t>& parents) {
  auto owner = std::make_unique<TreeArrays>();
  Detached([&] { *owner = MakeTree(parents.data(), static_cast<size_t>(parents.size())); });
  TreeArrays* tree = owner.release();  // owned by the handle from here on
  const py::capsule handle(tree, kTreeHandle, [](PyObject* self) {
    delete static_cast<TreeArrays*>(PyCapsule_GetPointer(self, kTreeHandle));
  });
  const auto view = [&](const auto& values) {
    using Value = typename std::decay_t<decltype(values)>::value_type;
    return py::array_t<Value>(static_cast<py::ssize_t>(values.size()), values.data(), handle);
  };
  return py::make_tuple(handle, view(tree->parent), view(tree->slot), view(tree->child_begin), view(tree->child),
                        view(tree->unit_begin), view(tree->depth), view(tree->origin));
}

py::array_t<int64_t> BuildHuffman(const Doubles& counts, size_t arity) {
  Require(counts.size() > 0 && arity > 1, "counts and an arity of 2 at least are needed");
  std::vector<int64_t> parents;
  Detached([&] { parents = HuffmanParents(counts.data(), static_cast<size_t>(counts.size()), arity); });
  return ToArray(std::move(parents));
}

py::array_t<int64_t> BuildBalanced(size_t n, size_t arity) {
  Require(n > 0 && arity > 1, "a class and an arity of 2 at least are needed");
  return ToArray(BalancedParents(n, arity));
}

using Handle = py::capsule;

TreeView ViewOf(const Handle& tree) {
  const TreeArrays* arrays = TreeOf(tree.ptr());
  if (arrays == nullptr) throw py::error_already_set();
  return arrays->View();
}

void CheckTargets(const TreeView& tree, const Targets& target) {
  const auto n = static_cast<int64_t>(tree.classes);
  Require(std::all_of(target.data(), target.data() + target.size(), [n](int64_t c) { return c >= 0 && c < n; }),
          "a target is out of range");
}

// A layer and input rows, with the arrays that hold them.
template <class T>
struct LayerInput {
  Handle tree;
  Array<T> weight;
  std::optional<Array<T>> bias;
  Array<T> hidden;

  size_t Rows() const { return static_cast<size_t>(hidden.shape(0)); }
  Layer<T> AsLayer() {
    const TreeView view = ViewOf(tree);
    const auto units = view.unit_begin[view.inner];
    Require(weight.ndim() == 2 && hidden.ndim() == 2 && weight.shape(0) == units && weight.shape(1) == hidden.shape(1),
            "weight, hidden and the tree do not fit each other");
    Require(!bias || bias->size() == units, "one bias for each unit is needed");
    return {view, const_cast<T*>(weight.data()), bias ? const_cast<T*>(bias->data()) : nullptr,
            static_cast<size_t>(weight.shape(1))};
  }
  Hidden<T> AsHidden() const { return {hidden.data(), Rows()}; }
  // Requires `width` values per row.
  template <class Values>
  void RequireRows(const Values& values, size_t width = 1) const {
    Require(static_cast<size_t>(values.size()) == Rows() * width, "one for each row is needed");
  }
};

template <class T>
double Cost(const LayerInput<T>& input) {
  return static_cast<double>(input.hidden.size()) * 10.0;
}

template <class T, class Out>
void RunLogProb(const Handle& tree, const Array<T>& weight, const std::optional<Array<T>>& bias, const Array<T>& hidden,
                const Targets& target, Array<Out> out) {
  LayerInput<T> input = {tree, weight, bias, hidden};
  const Layer<T> layer = input.AsLayer();
  input.RequireRows(target);
  input.RequireRows(out);
  CheckTargets(layer.tree, target);
  Out* to = out.mutable_data();
  Detached(Cost(input), [&] { LogProb(layer, input.AsHidden(), target.data(), to); });
}

template <class T>
void RunLogProbOfNodes(const Handle& tree, const Array<T>& weight, const std::optional<Array<T>>& bias,
                       const Array<T>& hidden, Array<T> out) {
  LayerInput<T> input = {tree, weight, bias, hidden};
  const Layer<T> layer = input.AsLayer();
  Require(out.ndim() == 2, "a matrix is needed");
  const auto nodes = static_cast<size_t>(out.shape(1));
  input.RequireRows(out, nodes);
  Require(nodes <= layer.tree.classes + layer.tree.inner, "there are not so many nodes");
  T* to = out.mutable_data();
  Detached(static_cast<double>(out.size()) * 10.0, [&] { LogProbOfNodes(layer, input.AsHidden(), nodes, to); });
}

double RunMeanLoss(const Doubles& loss, const Doubles& weight) {
  Require(loss.size() == weight.size(), "one for each row is needed");
  return MeanLoss(loss.data(), weight.data(), static_cast<size_t>(loss.size()));
}

py::array_t<int64_t> RunTouchedUnits(const Handle& tree, const Targets& target) {
  const TreeView view = ViewOf(tree);
  CheckTargets(view, target);
  return ToArray(TouchedUnits(view, target.data(), static_cast<size_t>(target.size())));
}

template <class T>
void RunLossGradient(const Handle& tree, const Array<T>& weight, const std::optional<Array<T>>& bias,
                     const Array<T>& hidden, const Targets& target, const Doubles& scale, Doubles loss,
                     Array<T> d_hidden, const Targets& units, Array<T> d_weight, std::optional<Array<T>> d_bias) {
  LayerInput<T> input = {tree, weight, bias, hidden};
  const Layer<T> layer = input.AsLayer();
  for (const auto* column : {&scale, static_cast<const Doubles*>(&loss)}) input.RequireRows(*column);
  input.RequireRows(target);
  input.RequireRows(d_hidden, layer.features);
  CheckTargets(layer.tree, target);
  Require(d_weight.size() == units.size() * static_cast<py::ssize_t>(layer.features) &&
              (!d_bias || d_bias->size() == units.size()),
          "the gradient does not fit the units");
  const Gradient<T> gradient = {d_hidden.mutable_data(), units.data(), static_cast<size_t>(units.size()),
                                d_weight.mutable_data(), d_bias ? d_bias->mutable_data() : nullptr};
  double* to = loss.mutable_data();
  Detached(Cost(input), [&] { LossGradient(layer, input.AsHidden(), target.data(), scale.data(), to, gradient); });
}

template <class T>
void RunDescend(const Handle& tree, Array<T> weight, std::optional<Array<T>> bias, const Array<T>& hidden,
                const Targets& target, const Doubles& scale, double rate, std::optional<Doubles> squares,
                double epsilon, bool lock_free, size_t together, Doubles loss, Array<T> d_hidden) {
  LayerInput<T> input = {tree, weight, bias, hidden};
  const Layer<T> layer = input.AsLayer();
  Require(weight.writeable() && (!bias || bias->writeable()), "the layer is read-only");
  for (const auto* column : {&scale, static_cast<const Doubles*>(&loss)}) input.RequireRows(*column);
  input.RequireRows(target);
  input.RequireRows(d_hidden, layer.features);
  CheckTargets(layer.tree, target);
  Require(!squares || squares->size() == weight.shape(0), "one sum of squares for each unit is needed");
  const Descent<T> descent = {rate, squares ? squares->mutable_data() : nullptr, epsilon, lock_free, together};
  double* to = loss.mutable_data();
  T* d_to = d_hidden.mutable_data();
  Detached(Cost(input), [&] { DescendRows(layer, input.AsHidden(), target.data(), scale.data(), descent, to, d_to); });
}

template <class T>
void RunDescendPairs(const Handle& tree, Array<T> weight, std::optional<Array<T>> bias, Array<T> table,
                     const Targets& ids, const Targets& target, double rate, std::optional<Doubles> squares,
                     double epsilon, bool lock_free, size_t together, Doubles loss) {
  LayerInput<T> input = {tree, weight, bias, table};
  const Layer<T> layer = input.AsLayer();
  Require(weight.writeable() && (!bias || bias->writeable()) && table.writeable(), "what is learnt is read-only");
  Require(ids.size() == target.size() && ids.size() == loss.size(), "one for each pair is needed");
  CheckTargets(layer.tree, target);
  const auto n = static_cast<int64_t>(input.Rows());
  Require(std::all_of(ids.data(), ids.data() + ids.size(), [n](int64_t i) { return i >= 0 && i < n; }),
          "an id is out of range");
  Require(!squares || squares->size() == weight.shape(0), "one sum of squares for each unit is needed");
  const Descent<T> descent = {rate, squares ? squares->mutable_data() : nullptr, epsilon, lock_free, together};
  double* to = loss.mutable_data();
  T* rows = table.mutable_data();
  Detached(static_cast<double>(ids.size()) * 100.0,
           [&] { DescendPairs(layer, rows, ids.data(), static_cast<size_t>(ids.size()), target.data(), descent, to); });
}

template <class T>
void RunTop(const Handle& tree, const Array<T>& weight, const std::optional<Array<T>>& bias, const Array<T>& hidden,
            size_t k, size_t beam, double min_log_prob, Targets ids, Array<T> log_probs, Targets visited) {
  LayerInput<T> input = {tree, weight, bias, hidden};
  const Layer<T> layer = input.AsLayer();
  input.RequireRows(ids, k);
  input.RequireRows(log_probs, k);
  input.RequireRows(visited);
  int64_t *to = ids.mutable_data(), *count = visited.mutable_data();
  T* log_to = log_probs.mutable_data();
  Detached(Cost(input), [&] { TopClasses(layer, input.AsHidden(), {k, beam, min_log_prob}, to, log_to, count); });
}

template <class T>
void RunSample(const Handle& tree, const Array<T>& weight, const std::optional<Array<T>>& bias, const Array<T>& hidden,
               const Array<uint64_t>& seed, Targets out) {
  LayerInput<T> input = {tree, weight, bias, hidden};
  const Layer<T> layer = input.AsLayer();
  input.RequireRows(seed);
  input.RequireRows(out);
  int64_t* to = out.mutable_data();
  Detached(Cost(input), [&] { SampleClasses(layer, input.AsHidden(), seed.data(), to); });
}

template <class T>
void RunSureNodes(const Handle& tree, const Array<T>& weight, const std::optional<Array<T>>& bias,
                  const Array<T>& hidden, double min_log_prob, Targets nodes, Array<T> log_probs) {
  LayerInput<T> input = {tree, weight, bias, hidden};
  const Layer<T> layer = input.AsLayer();
  input.RequireRows(nodes);
  input.RequireRows(log_probs);
  int64_t* to = nodes.mutable_data();
  T* log_to = log_probs.mutable_data();
  Detached(Cost(input), [&] { SureNodes(layer, input.AsHidden(), min_log_prob, to, log_to); });
}

template <class T>
void BindLayer(py::module_& m) {
  const auto tree = py::arg("tree"), weight = py::arg("weight").noconvert(), bias = py::arg("bias").noconvert(),
             hidden = py::arg("hidden").noconvert(), target = py::arg("target").noconvert();
  const auto exact = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("layer_log_prob", RunLogProb<T, T>, tree, weight, bias, hidden, target, exact("out"));
  m.def("layer_log_prob_of_nodes", RunLogProbOfNodes<T>, tree, weight, bias, hidden, exact("out"));
  m.def("layer_loss_gradient", RunLossGradient<T>, tree, weight, bias, hidden, target, exact("scale"), exact("loss"),
        exact("d_hidden"), exact("units"), exact("d_weight"), exact("d_bias"));
  m.def("layer_descend", RunDescend<T>, tree, weight, bias, hidden, target, exact("scale"), py::arg("rate"),
        exact("squares"), py::arg("epsilon"), py::arg("lock_free"), py::arg("together"), exact("loss"),
        exact("d_hidden"));
  m.def("layer_descend_pairs", RunDescendPairs<T>, tree, weight, bias, exact("table"), exact("ids"), target,
        py::arg("rate"), exact("squares"), py::arg("epsilon"), py::arg("lock_free"), py::arg("together"),
        exact("loss"));
  m.def("layer_topk", RunTop<T>, tree, weight, bias, hidden, py::arg("k"), py::arg("beam"), py::arg("min_log_prob"),
        exact("ids"), exact("log_probs"), exact("visited"));
  m.def("layer_sample", RunSample<T>, tree, weight, bias, hidden, exact("seed"), exact("out"));
  m.def("layer_sure_nodes", RunSureNodes<T>, tree, weight, bias, hidden, py::arg("min_log_prob"), exact("nodes"),
        exact("log_probs"));
}

}  // namespace

void BindTrees(py::module_& m) {
  m.def("make_tree", BuildTree, py::arg("parents").noconvert());
  m.def("huffman_parents", BuildHuffman, py::arg("counts").noconvert(), py::arg("arity"));
  m.def("balanced_parents", BuildBalanced, py::arg("n"), py::arg("arity"));
  m.def("touched_units", RunTouchedUnits, py::arg("tree"), py::arg("target").noconvert());
  m.def("mean_loss", RunMeanLoss, py::arg("loss").noconvert(), py::arg("weight").noconvert());
  BindLayer<float>(m);
  BindLayer<double>(m);
  const auto exact = [](const char* name) { return py::arg(name).noconvert(); };
  m.def("layer_log_prob", RunLogProb<float, double>, py::arg("tree"), exact("weight"), exact("bias"), exact("hidden"),
        exact("target"), exact("out"));
  if (PyModule_AddFunctions(m.ptr(), DirectTreeMethods()) < 0) throw py::error_already_set();
}

}  // namespace boltzmax
