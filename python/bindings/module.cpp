// boltzmax._core: the list of its functions.

#define BOLTZMAX_IMPORT_NUMPY
#include "numpy_api.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "../../cpp/core/api/api.hpp"
#include "../../cpp/core/runtime/cgroup.hpp"
#include "../../cpp/core/runtime/cpu_features.hpp"
#include "../../cpp/core/runtime/dispatch.hpp"
#include "../../cpp/core/runtime/parallel.hpp"
#include "calibration.hpp"
#include "candidates.hpp"
#include "complex.hpp"
#include "direct.hpp"
#include "draws.hpp"
#include "exact_totals.hpp"
#include "linear.hpp"
#include "loss_calls.hpp"
#include "losses.hpp"
#include "normalized.hpp"
#include "point_losses.hpp"
#include "quantised.hpp"
#include "recycling.hpp"
#include "rescoring.hpp"
#include "row_functions.hpp"
#include "sampling.hpp"
#include "segments.hpp"
#include "sets.hpp"
#include "trees.hpp"
#include "weighted.hpp"
#include "xla.hpp"

namespace py = pybind11;

namespace {

// Docstrings are in boltzmax/arrays/docs.py; this attaches one to a function of DirectMethods.
void SetDoc(const std::string& name, const std::string& doc) {
  for (PyMethodDef* method = boltzmax::DirectMethods(); method->ml_name != nullptr; ++method) {
    if (name == method->ml_name) {
      static std::vector<std::string*> kept;  // as in NumPy: ml_doc must outlive the function
      kept.push_back(new std::string(doc));
      method->ml_doc = kept.back()->c_str();
      return;
    }
  }
  throw py::key_error(name);
}

// NumPy has one state for all interpreters, and a second interpreter fails in it or half works; pybind11, before Python
// 3.12, deadlocks there. So only the main interpreter may load this module.
bool RefuseSubInterpreter() {
  if (PyInterpreterState_Get() == PyInterpreterState_Main()) return false;
  PyErr_SetString(PyExc_ImportError, "boltzmax does not work in sub-interpreters, as NumPy does not");
  return true;
}

// False with an exception set if warnings are errors.
bool WarnOfIgnoredThreads() {
  const char* text = boltzmax::IgnoredNumThreads();
  return text == nullptr ||
         PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                          "BOLTZMAX_NUM_THREADS must be a whole number from 1 to %d, got '%s': it is ignored",
                          boltzmax::kMostThreads, text) == 0;
}

#if defined(__clang__)
constexpr const char* kCompiler = "Clang " __clang_version__;
#elif defined(__GNUC__)
constexpr const char* kCompiler = "GCC " __VERSION__;
#else
constexpr const char* kCompiler = "unknown";
#endif

}  // namespace

PYBIND11_MODULE(core_of_main_interpreter, module, py::mod_gil_not_used()) {
  if (RefuseSubInterpreter()) throw py::error_already_set();
  if (_import_array() < 0) throw py::error_already_set();
  boltzmax::SelectIsaFromEnvironment();

  if (PyModule_AddFunctions(module.ptr(), boltzmax::DirectMethods()) < 0) throw py::error_already_set();
  if (PyModule_AddFunctions(module.ptr(), boltzmax::LossCallMethods()) < 0) throw py::error_already_set();
  if (PyModule_AddFunctions(module.ptr(), boltzmax::PointLossMethods()) < 0) throw py::error_already_set();
  if (PyModule_AddFunctions(module.ptr(), boltzmax::RowFunctionMethods()) < 0) throw py::error_already_set();
  if (PyModule_AddFunctions(module.ptr(), boltzmax::SmallLinearMethods()) < 0) throw py::error_already_set();
  boltzmax::BindNormalized(module);
  boltzmax::BindCandidates(module);
  boltzmax::BindDraws(module);
  boltzmax::BindExactTotals(module);
  boltzmax::BindRowFunctions(module);
  boltzmax::BindSampling(module);
  boltzmax::BindSegments(module);
  boltzmax::BindSets(module);
  boltzmax::BindLosses(module);
  boltzmax::BindLinear(module);
  boltzmax::BindPickedRows(module);
  boltzmax::BindRescoring(module);
  boltzmax::BindCalibration(module);
  boltzmax::BindQuantised(module);
  boltzmax::BindTrees(module);
  boltzmax::BindWeighted(module);
  boltzmax::BindComplex(module);
  boltzmax::BindXla(module);
  module.def("set_doc", SetDoc, py::arg("name"), py::arg("doc"));

  module.def("num_threads", boltzmax::NumThreads);
  module.def("set_num_threads", boltzmax::SetNumThreads, py::arg("n"));
  module.def("cpu_quota", boltzmax::CpuQuota, py::arg("root"));
  module.def("isa", [] { return boltzmax::ActiveKernels().isa; });
  module.def("available_isas", boltzmax::AvailableIsas);
  module.def("select_isa", boltzmax::SelectIsa, py::arg("name"));
  module.def("cpu", boltzmax::CpuName);
  module.attr("compiler") = kCompiler;
  module.attr("version") = BOLTZMAX_VERSION;
  // The table for other compiled modules: see cpp/include/boltzmax/boltzmax.h.
  module.attr("_C_API") = py::capsule(boltzmax_get_api(BOLTZMAX_ABI_VERSION), BOLTZMAX_CAPSULE);
}

// Python calls this before pybind11 runs: exceptions raised here reach it unchanged.
extern "C" PYBIND11_EXPORT PyObject* PyInit__core();
PyObject* PyInit__core() {
  const bool fits = !RefuseSubInterpreter() && boltzmax::InitRecycling() && WarnOfIgnoredThreads();
  return fits ? PyInit_core_of_main_interpreter() : nullptr;
}
