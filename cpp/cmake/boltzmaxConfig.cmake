# boltzmax::headers, and boltzmax::boltzmax where there is a library: the Python package has none, see boltzmax.h.
include("${CMAKE_CURRENT_LIST_DIR}/boltzmaxTargets.cmake")
if(TARGET boltzmax::boltzmax)
  include(CMakeFindDependencyMacro)
  find_dependency(Threads)
endif()
