#include "direct_trees.hpp"

#include <pybind11/pybind11.h>

#include <cmath>
#include <limits>

#include "../../cpp/core/runtime/row_blocks.hpp"
#include "../../cpp/core/trees/inference.hpp"
#include "../../cpp/core/trees/training.hpp"
#include "arrays.hpp"
#include "detached.hpp"
#include "tree_handle.hpp"

namespace py = pybind11;

namespace boltzmax {

namespace {

// For more rows, the microseconds that this path saves are less than a hundredth; and each thread keeps memory for
// them.
constexpr npy_intp kMostRows = 4096;

// An exact ndarray in C order, aligned and in native byte order.
PyArrayObject* AsPlain(PyObject* value, int ndim) {
  if (!PyArray_CheckExact(value)) return nullptr;
  auto* array = reinterpret_cast<PyArrayObject*>(value);
  return PyArray_NDIM(array) == ndim && PyArray_ISCARRAY_RO(array) ? array : nullptr;
}

bool Overlap(PyArrayObject* a, PyArrayObject* b) {
  return PyArray_BYTES(a) < PyArray_BYTES(b) + PyArray_NBYTES(b) &&
         PyArray_BYTES(b) < PyArray_BYTES(a) + PyArray_NBYTES(a);
}

// The arguments of a call on a layer. Holds the layer's attributes meanwhile, since another thread may replace them.
class LayerCall {
 public:
  // False if the call is not ordinary.
  bool Read(PyObject* layer, PyObject* hidden) {
    struct Names {
      PyObject* tree = PyUnicode_InternFromString("tree");
      PyObject* handle = PyUnicode_InternFromString("_handle");
      PyObject* weight = PyUnicode_InternFromString("weight");
      PyObject* bias = PyUnicode_InternFromString("bias");
      PyObject* dtype = PyUnicode_InternFromString("dtype");
      PyObject* n_features = PyUnicode_InternFromString("n_features");
    };
    static const Names names;
    const bool is_usual = Take(layer, names.tree, &tree_) && Take(tree_.ptr(), names.handle, &handle_) &&
                          Take(layer, names.weight, &weight_object_) && Take(layer, names.bias, &bias_object_) &&
                          Take(layer, names.dtype, &dtype_) && Take(layer, names.n_features, &n_features_) &&
                          ReadLayer() && ReadHidden(hidden);
    if (!is_usual) PyErr_Clear();  // an attribute that cannot be read: the general path raises the error
    return is_usual;
  }

  npy_intp Rows() const { return PyArray_DIM(hidden_, 0); }
  size_t Classes() const { return view_.classes; }
  size_t Units() const { return static_cast<size_t>(PyArray_DIM(weight_, 0)); }
  PyArray_Descr* Descr() const { return PyArray_DESCR(weight_); }
  PyArrayObject* HiddenArray() const { return hidden_; }
  bool IsFloat() const { return PyArray_TYPE(weight_) == NPY_FLOAT; }
  double Cost() const { return static_cast<double>(PyArray_SIZE(hidden_)) * 10.0; }

  bool MayLearn() const {
    return PyArray_ISWRITEABLE(weight_) && !Overlap(hidden_, weight_) &&
           (bias_ == nullptr || (PyArray_ISWRITEABLE(bias_) && !Overlap(hidden_, bias_)));
  }

  // One class in range per row, in the thread's memory; null if they are not.
  const int64_t* Targets(PyObject* value) const {
    PyArrayObject* array = AsPlain(value, 1);
    if (array == nullptr || PyArray_DIM(array, 0) != Rows() || !PyTypeNum_ISSIGNED(PyArray_TYPE(array))) return nullptr;
    switch (PyArray_ITEMSIZE(array)) {
      case sizeof(int32_t): return Checked(static_cast<const int32_t*>(PyArray_DATA(array)));
      case sizeof(int64_t): return Checked(static_cast<const int64_t*>(PyArray_DATA(array)));
      default: return nullptr;
    }
  }

  template <class T>
  Layer<T> AsLayer() const {
    return {view_, static_cast<T*>(PyArray_DATA(weight_)),
            bias_ == nullptr ? nullptr : static_cast<T*>(PyArray_DATA(bias_)),
            static_cast<size_t>(PyArray_DIM(weight_, 1))};
  }
  template <class T>
  Hidden<T> AsHidden() const {
    return {static_cast<const T*>(PyArray_DATA(hidden_)), static_cast<size_t>(Rows())};
  }

 private:
  static bool Take(PyObject* object, PyObject* name, py::object* value) {
    *value = py::reinterpret_steal<py::object>(PyObject_GetAttr(object, name));
    return value->ptr() != nullptr;
  }

  bool ReadLayer() {
    if (!PyCapsule_IsValid(handle_.ptr(), kTreeHandle) || !PyLong_CheckExact(n_features_.ptr())) return false;
    view_ = TreeOf(handle_.ptr())->View();
    weight_ = AsPlain(weight_object_.ptr(), 2);
    if (weight_ == nullptr || dtype_.ptr() != reinterpret_cast<PyObject*>(PyArray_DESCR(weight_))) return false;
    const int type = PyArray_TYPE(weight_);
    const npy_intp units = view_.unit_begin[view_.inner];
    if ((type != NPY_FLOAT && type != NPY_DOUBLE) || PyArray_DIM(weight_, 0) != units ||
        PyArray_DIM(weight_, 1) != PyLong_AsSsize_t(n_features_.ptr())) {
      return false;
    }
    if (bias_object_.is_none()) return true;
    bias_ = AsPlain(bias_object_.ptr(), 1);
    return bias_ != nullptr && PyArray_TYPE(bias_) == type && PyArray_DIM(bias_, 0) == units;
  }

  bool ReadHidden(PyObject* value) {
    hidden_ = AsPlain(value, 2);
    return hidden_ != nullptr && PyArray_TYPE(hidden_) == PyArray_TYPE(weight_) && Rows() <= kMostRows &&
           PyArray_DIM(hidden_, 1) == PyArray_DIM(weight_, 1);
  }

  template <class I>
  const int64_t* Checked(const I* target) const {
    thread_local Scratch memory;
    const auto rows = static_cast<size_t>(Rows());
    auto* classes = reinterpret_cast<int64_t*>(memory.Get((rows + 1) * sizeof(int64_t)));
    for (size_t r = 0; r < rows; ++r) {
      classes[r] = target[r];
      if (static_cast<uint64_t>(classes[r]) >= Classes()) return nullptr;
    }
    return classes;
  }

  py::object tree_, handle_, weight_object_, bias_object_, dtype_, n_features_;
  TreeView view_{};
  PyArrayObject *weight_ = nullptr, *bias_ = nullptr, *hidden_ = nullptr;
};

template <class T>
T* DataOf(const py::object& array) {
  return static_cast<T*>(PyArray_DATA(reinterpret_cast<PyArrayObject*>(array.ptr())));
}

py::object New(int ndim, const npy_intp* shape, PyArray_Descr* descr) {
  return py::reinterpret_steal<py::object>(NewArray(ndim, shape, descr, nullptr).release());
}

py::object NewIntegers(int ndim, const npy_intp* shape) {
  return py::reinterpret_steal<py::object>(PyArray_SimpleNew(ndim, shape, NPY_INT64));
}

// ---- (layer, hidden, target) ----

template <class T>
bool RunLogProb(const LayerCall& call, const int64_t* target, T* out) {
  return RunDetached(call.Cost(), [&] { LogProb(call.AsLayer<T>(), call.AsHidden<T>(), target, out); });
}

// Here and below: nothing, without an exception, if the call is not ordinary.
py::object LogProbOf(PyObject* const* args, Py_ssize_t nargs) {
  LayerCall call;
  if (nargs != 3 || !call.Read(args[0], args[1])) return {};
  const int64_t* target = call.Targets(args[2]);
  if (target == nullptr) return {};
  const npy_intp rows = call.Rows();
  py::object out = New(1, &rows, call.Descr());
  if (!out) return {};
  const bool done =
      call.IsFloat() ? RunLogProb(call, target, DataOf<float>(out)) : RunLogProb(call, target, DataOf<double>(out));
  return done ? out : py::object();
}

// ---- (layer, hidden, k, beam, min_prob) ----

bool ReadTopQuery(PyObject* k, PyObject* beam, PyObject* min_prob, size_t classes, TopQuery* query) {
  if (!PyLong_CheckExact(k) || beam != Py_None || !PyFloat_CheckExact(min_prob)) return false;
  int overflow;
  const long long count = PyLong_AsLongLongAndOverflow(k, &overflow);
  const double p = PyFloat_AS_DOUBLE(min_prob);
  if (overflow != 0 || count < 1 || static_cast<uint64_t>(count) > classes || !(p >= 0.0 && p <= 1.0)) return false;
  *query = {static_cast<size_t>(count), 0, p > 0.0 ? std::log(p) : -std::numeric_limits<double>::infinity()};
  return true;
}

py::object TopOf(PyObject* const* args, Py_ssize_t nargs) {
  LayerCall call;
  TopQuery query{};
  if (nargs != 5 || !call.Read(args[0], args[1]) || !ReadTopQuery(args[2], args[3], args[4], call.Classes(), &query)) {
    return {};
  }
  const npy_intp shape[] = {call.Rows(), static_cast<npy_intp>(query.k)};
  const py::object ids = NewIntegers(2, shape), visited = NewIntegers(1, shape),
                   log_probs = New(2, shape, call.Descr());
  if (!ids || !visited || !log_probs) return {};
  const auto run = [&]<class T>(T* to) {
    return RunDetached(call.Cost(), [&] {
      TopClasses(call.AsLayer<T>(), call.AsHidden<T>(), query, DataOf<int64_t>(ids), to, DataOf<int64_t>(visited));
    });
  };
  const bool done = call.IsFloat() ? run(DataOf<float>(log_probs)) : run(DataOf<double>(log_probs));
  if (!done) return {};
  return py::reinterpret_steal<py::object>(PyTuple_Pack(3, ids.ptr(), log_probs.ptr(), visited.ptr()));
}

// ---- (layer, hidden, target, lr, sample_weight, update, squares, eps) ----

struct StepOptions {
  double rate, epsilon;
  double* squares;
  bool lock_free;
  size_t together;

  bool Read(PyObject* lr, PyObject* sample_weight, PyObject* update, PyObject* sums, PyObject* eps, size_t units) {
    if (!PyFloat_CheckExact(lr) || sample_weight != Py_None || !PyFloat_CheckExact(eps)) return false;
    rate = PyFloat_AS_DOUBLE(lr);
    epsilon = PyFloat_AS_DOUBLE(eps);
    return std::isfinite(rate) && ReadUpdate(update) && ReadSquares(sums, units);
  }

 private:
  bool ReadUpdate(PyObject* update) {
    if (!PyUnicode_CheckExact(update)) return false;
    const auto is = [&](const char* name) { return PyUnicode_CompareWithASCIIString(update, name) == 0; };
    lock_free = is("hogwild");
    together = lock_free || is("grouped") ? kMostTogether : 1;
    return together > 1 || is("sequential");
  }
  bool ReadSquares(PyObject* sums, size_t units) {
    squares = nullptr;
    if (sums == Py_None) return true;
    PyArrayObject* array = AsPlain(sums, 1);
    if (array == nullptr || PyArray_TYPE(array) != NPY_DOUBLE || !PyArray_ISWRITEABLE(array)) return false;
    squares = static_cast<double*>(PyArray_DATA(array));
    return static_cast<size_t>(PyArray_DIM(array, 0)) == units;
  }
};

template <class T>
bool RunDescend(const LayerCall& call, const int64_t* target, const StepOptions& o, double* loss, T* d_hidden) {
  const Descent<T> descent = {o.rate, o.squares, o.epsilon, o.lock_free, o.together};
  return RunDetached(call.Cost(), [&] {
    DescendRows(call.AsLayer<T>(), call.AsHidden<T>(), target, nullptr, descent, loss, d_hidden);
  });
}

py::object StepOf(PyObject* const* args, Py_ssize_t nargs) {
  LayerCall call;
  StepOptions options{};
  if (nargs != 8 || !call.Read(args[0], args[1]) || !call.MayLearn()) return {};
  if (!options.Read(args[3], args[4], args[5], args[6], args[7], call.Units())) return {};
  const int64_t* target = call.Targets(args[2]);
  if (target == nullptr) return {};
  PyArrayObject* hidden = call.HiddenArray();
  const py::object d_hidden = New(2, PyArray_DIMS(hidden), call.Descr());
  if (!d_hidden) return {};
  const auto rows = static_cast<size_t>(call.Rows());
  thread_local Scratch memory;
  auto* loss = reinterpret_cast<double*>(memory.Get((rows + 1) * sizeof(double)));
  const bool done = call.IsFloat() ? RunDescend(call, target, options, loss, DataOf<float>(d_hidden))
                                   : RunDescend(call, target, options, loss, DataOf<double>(d_hidden));
  const auto mean =
      py::reinterpret_steal<py::object>(done ? PyFloat_FromDouble(MeanLoss(loss, nullptr, rows)) : nullptr);
  if (!mean) return {};
  return py::reinterpret_steal<py::object>(PyTuple_Pack(2, mean.ptr(), d_hidden.ptr()));
}

// ---- methods ----

template <py::object (*kAnswer)(PyObject* const*, Py_ssize_t)>
PyObject* Try(PyObject*, PyObject* const* args, Py_ssize_t nargs) {
  py::object answer = kAnswer(args, nargs);
  if (answer || PyErr_Occurred()) return answer.release().ptr();
  Py_RETURN_NONE;
}

}  // namespace

PyMethodDef* DirectTreeMethods() {
  static PyMethodDef methods[] = {{"try_log_prob", AsCFunction(Try<LogProbOf>), METH_FASTCALL, nullptr},
                                  {"try_topk", AsCFunction(Try<TopOf>), METH_FASTCALL, nullptr},
                                  {"try_descend", AsCFunction(Try<StepOf>), METH_FASTCALL, nullptr},
                                  {nullptr, nullptr, 0, nullptr}};
  return methods;
}

}  // namespace boltzmax
