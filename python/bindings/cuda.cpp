// boltzmax._cuda: builds tasks for the device from pointers, shapes and strides.

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cmath>
#include <memory>
#include <optional>
#include <stdexcept>
#include <vector>

#include "../../cpp/cuda/products.hpp"
#include "device_call.hpp"
#include "device_facts.hpp"
#include "dlpack.hpp"
#include "plain_calls.hpp"

namespace py = pybind11;

namespace boltzmax::cuda {

namespace {

void RunRowStats(const Call& call, Address target, int64_t k, Address lse, Address energy, Address entropy,
                 Address top_ids, Address top_log_probs, Address target_log_prob, Address target_rank, int device,
                 Address stream) {
  Task task = call.ToTask();
  task.target = Pointer<const int64_t>(target);
  const Statistics out = {Pointer<char>(lse),
                          Pointer<char>(energy),
                          Pointer<char>(entropy),
                          k,
                          Pointer<int64_t>(top_ids),
                          Pointer<char>(top_log_probs),
                          Pointer<char>(target_log_prob),
                          Pointer<int64_t>(target_rank)};
  On(device, [&] { RunStatistics(task, out, Pointer<CUstream_st>(stream)); });
}

// ---- losses: per row, and joined ----

enum class Reduction : int { kNone, kSum, kMean, kMeanOrZero };  // the last: 0 over no row

// The factor of the sum of the losses, on the device.
class Scale {
 public:
  Scale(Reduction reduction, const int64_t* target, int64_t rows, int device, Address stream)
      : is_mean_(reduction == Reduction::kMean || reduction == Reduction::kMeanOrZero),
        memory_(sizeof(double), device, stream) {
    if (is_mean_) {
      PrepareMean(target, rows, reduction == Reduction::kMeanOrZero, Pointer<double>(memory_.address()),
                  Pointer<CUstream_st>(stream));
    }
  }
  // Null for 1.
  const double* value() const { return is_mean_ ? Pointer<const double>(memory_.address()) : nullptr; }

 private:
  bool is_mean_;
  DeviceMemory memory_;
};

// `losses` has a number per row, `joined` one for all (not for kNone). The gradient is that of the result.
void RunCrossEntropy(const Call& call, Address target, Address losses, Address joined, Reduction reduction, int device,
                     Address stream_address) {
  Task task = call.ToTask();
  task.target = Pointer<const int64_t>(target);
  task.loss = Pointer<char>(losses);
  task.gain = 1.0 / call.temperature;
  On(device, [&] {
    const auto stream = Pointer<CUstream_st>(stream_address);
    const Scale scale(reduction, task.target, task.rows, device, stream_address);
    task.scale = scale.value();
    Run(task, stream);
    if (reduction != Reduction::kNone) {
      JoinLosses({task.storage, task.loss, task.rows}, task.scale, Pointer<void>(joined), stream);
    }
  });
}

// in: hidden, weight, bias, target; sizes: rows, features, classes; out: losses, joined, and the gradients by the first
// three. 0: none.
void RunLinearCrossEntropy(Storage storage, const std::vector<Address>& in, const Sizes& sizes,
                           const std::vector<Address>& out, double temperature, Reduction reduction, int64_t tile,
                           int device, Address stream_address) {
  const auto read = [&](size_t i) { return Pointer<const void>(in.at(i)); };
  const auto written = [&](size_t i) { return Pointer<void>(out.at(i)); };
  LinearTask task = {};
  task.storage = storage;
  task.hidden = read(0);
  task.weight = read(1);
  task.bias = read(2);
  task.target = Pointer<const int64_t>(in.at(3));
  task.rows = sizes.at(0);
  task.features = sizes.at(1);
  task.classes = sizes.at(2);
  task.temperature = PartsOfTemperature(temperature);
  task.losses = written(0);
  task.d_hidden = written(2);
  task.d_weight = written(3);
  task.d_bias = written(4);
  task.tile = tile;
  On(device, [&] {
    const auto stream = Pointer<CUstream_st>(stream_address);
    const Scale scale(reduction, task.target, task.rows, device, stream_address);
    task.scale = scale.value();
    RunLinear(task, stream);
    if (reduction != Reduction::kNone) JoinLosses({storage, task.losses, task.rows}, task.scale, written(1), stream);
  });
}

// ---- the hierarchical layer ----

// parent, slot, child, child_begin, unit_begin; the numbers of classes and inner nodes, and of units on the longest
// path and in the widest node.
struct DeviceTree {
  std::vector<Address> arrays;
  Sizes sizes;
};

// in: weight, bias, hidden, target (none for the likeliest classes); sizes: features, rows
LayerTask MakeLayerTask(Storage storage, const DeviceTree& tree, const std::vector<Address>& in, const Sizes& sizes) {
  const auto array = [&](size_t i) { return Pointer<const int32_t>(tree.arrays.at(i)); };
  const auto offsets = [&](size_t i) { return Pointer<const int64_t>(tree.arrays.at(i)); };
  LayerTask task = {};
  task.storage = storage;
  task.tree = {array(0), array(1), array(2), offsets(3), offsets(4), tree.sizes.at(0), tree.sizes.at(1)};
  task.longest = tree.sizes.at(2);
  task.weight = Pointer<const void>(in.at(0));
  task.bias = Pointer<const void>(in.at(1));
  task.hidden = Pointer<const void>(in.at(2));
  task.target = Pointer<const int64_t>(in.at(3));
  task.features = sizes.at(0);
  task.rows = sizes.at(1);
  return task;
}

// out: losses, joined, d_hidden, d_weight, d_bias; 0 for those that are not wanted.
void RunTreeLoss(Storage storage, const DeviceTree& tree, const std::vector<Address>& in, const Sizes& sizes,
                 const std::vector<Address>& out, Reduction reduction, bool gives_log_probs, int device,
                 Address stream_address) {
  LayerTask task = MakeLayerTask(storage, tree, in, sizes);
  const auto written = [&](size_t i) { return Pointer<void>(out.at(i)); };
  task.gives_log_probs = gives_log_probs;
  task.losses = written(0);
  task.d_hidden = written(2);
  task.d_weight = written(3);
  task.d_bias = written(4);
  On(device, [&] {
    const auto stream = Pointer<CUstream_st>(stream_address);
    const Scale scale(reduction, task.target, task.rows, device, stream_address);
    task.scale = scale.value();
    RunLayer(task, stream);
    if (reduction != Reduction::kNone) JoinLosses({storage, task.losses, task.rows}, task.scale, written(1), stream);
  });
}

void RunTreeTop(Storage storage, const DeviceTree& tree, const std::vector<Address>& in, const Sizes& sizes, int64_t k,
                double min_log_prob, Address ids, Address log_probs, int device, Address stream) {
  const LayerTask task = MakeLayerTask(storage, tree, in, sizes);
  const TopTask top = {k, min_log_prob, tree.sizes.at(3), Pointer<int64_t>(ids), Pointer<void>(log_probs)};
  On(device, [&] { RunTopClasses(task, top, Pointer<CUstream_st>(stream)); });
}

}  // namespace

}  // namespace boltzmax::cuda

PYBIND11_MODULE(_cuda, module, py::mod_gil_not_used()) {
  using namespace boltzmax::cuda;  // NOLINT(google-build-using-namespace): this is its face
  py::enum_<Operation>(module, "Operation")
      .value("SOFTMAX", Operation::kSoftmax)
      .value("LOG_SOFTMAX", Operation::kLogSoftmax)
      .value("LOGSUMEXP", Operation::kLogSumExp)
      .value("SOFTMAX_BACKWARD", Operation::kSoftmaxBackward)
      .value("LOG_SOFTMAX_BACKWARD", Operation::kLogSoftmaxBackward)
      .value("CROSS_ENTROPY", Operation::kCrossEntropy)
      .value("ROW_STATS", Operation::kStatistics);
  py::enum_<Storage>(module, "Storage")
      .value("FLOAT32", Storage::kFloat32)
      .value("FLOAT64", Storage::kFloat64)
      .value("FLOAT16", Storage::kFloat16)
      .value("BFLOAT16", Storage::kBFloat16);
  py::enum_<Reduction>(module, "Reduction")
      .value("NONE", Reduction::kNone)
      .value("SUM", Reduction::kSum)
      .value("MEAN", Reduction::kMean)
      .value("MEAN_OR_ZERO", Reduction::kMeanOrZero);

  py::class_<DeviceMemory, std::shared_ptr<DeviceMemory>>(module, "DeviceMemory")
      .def(py::init<size_t, int, Address, bool>(), py::arg("bytes"), py::arg("device"), py::arg("stream"),
           py::arg("is_lasting") = false)
      .def_property_readonly("address", &DeviceMemory::address)
      .def_property_readonly("device", &DeviceMemory::device)
      .def("share_with", &DeviceMemory::ShareWith, py::arg("stream"))
      .def("copy_in", &DeviceMemory::CopyIn, py::arg("host"))
      .def("copy_out", &DeviceMemory::CopyOut, py::arg("host"));

  using Place = std::pair<Address, Sizes>;
  const auto make_call = [](Operation operation, Storage storage, Sizes shape, uint64_t reduced, Place x,
                            std::optional<Place> y, std::optional<Place> third, double temperature) {
    const auto operand = [](Place place) { return Operand{place.first, std::move(place.second)}; };
    Call call = {operation, storage, std::move(shape), reduced, operand(std::move(x)), {}, {}, temperature};
    if (y) call.y = operand(*std::move(y));
    if (third) call.third = operand(*std::move(third));
    for (const Operand* o : {&call.x, call.y ? &*call.y : nullptr, call.third ? &*call.third : nullptr}) {
      if (o != nullptr && o->strides.size() != call.shape.size()) throw std::invalid_argument("a stride is missing");
    }
    return call;
  };
  py::class_<Call>(module, "Call")
      .def(py::init(make_call), py::arg("operation"), py::arg("storage"), py::arg("shape"), py::arg("reduced"),
           py::arg("x"), py::arg("y"), py::arg("third"), py::arg("temperature"));

  BindPlainCalls(module);
  BindDeviceFacts(module);
  module.def("run", RunCall, py::arg("call"), py::arg("device"), py::arg("stream"));
  module.def("row_stats", RunRowStats, py::arg("call"), py::arg("target"), py::arg("k"), py::arg("lse"),
             py::arg("energy"), py::arg("entropy"), py::arg("top_ids"), py::arg("top_log_probs"),
             py::arg("target_log_prob"), py::arg("target_rank"), py::arg("device"), py::arg("stream"));
  module.def("cross_entropy", RunCrossEntropy, py::arg("call"), py::arg("target"), py::arg("losses"), py::arg("joined"),
             py::arg("reduction"), py::arg("device"), py::arg("stream"));
  module.def(
      "clear",
      [](Address address, size_t bytes, int device, Address stream) {
        On(device, [&] { Clear(Pointer<void>(address), bytes, Pointer<CUstream_st>(stream)); });
      },
      py::arg("address"), py::arg("bytes"), py::arg("device"), py::arg("stream"));
  module.def(
      "widen_targets",
      [](Address from, Address to, int64_t count, int device, Address stream) {
        On(device, [&] {
          WidenTargets(Pointer<const int32_t>(from), Pointer<int64_t>(to), count, Pointer<CUstream_st>(stream));
        });
      },
      py::arg("source"), py::arg("result"), py::arg("count"), py::arg("device"), py::arg("stream"));
  module.def(
      "wait_for", [](int device, Address stream) { On(device, [&] { WaitFor(Pointer<CUstream_st>(stream)); }); },
      py::arg("device"), py::arg("stream"));
  module.attr("cuda_version") = CudaVersion();
  module.attr("is_emulated") = IsEmulated();
  module.def("count_comparisons", CountComparisons);
  module.def("load_products", LoadProducts, py::arg("files"));
  module.def("linear_cross_entropy", RunLinearCrossEntropy, py::arg("storage"), py::arg("read"), py::arg("sizes"),
             py::arg("written"), py::arg("temperature"), py::arg("reduction"), py::arg("tile"), py::arg("device"),
             py::arg("stream"));
  py::class_<DeviceTree>(module, "DeviceTree")
      .def(py::init<std::vector<Address>, Sizes>(), py::arg("arrays"), py::arg("sizes"));
  module.def("tree_loss", RunTreeLoss, py::arg("storage"), py::arg("tree"), py::arg("read"), py::arg("sizes"),
             py::arg("written"), py::arg("reduction"), py::arg("gives_log_probs"), py::arg("device"),
             py::arg("stream"));
  module.def("tree_top", RunTreeTop, py::arg("storage"), py::arg("tree"), py::arg("read"), py::arg("sizes"),
             py::arg("k"), py::arg("min_log_prob"), py::arg("ids"), py::arg("log_probs"), py::arg("device"),
             py::arg("stream"));
  module.def(
      "order",
      [](int device, Address earlier, Address later) {
        const DeviceScope scope(device);
        Order(Pointer<CUstream_st>(earlier), Pointer<CUstream_st>(later));
      },
      py::arg("device"), py::arg("earlier"), py::arg("later"));
  module.def("why_unavailable", WhyUnavailable);
  module.def("device_of", [](Address address) { return DeviceOf(Pointer<const void>(address)); }, py::arg("address"));
  BindDLPack(module);
}
