# One library target a folder, every target with the same flags.

add_library(tandem_options INTERFACE)
target_compile_features(tandem_options INTERFACE cxx_std_20)
target_include_directories(tandem_options INTERFACE ${CMAKE_SOURCE_DIR})
target_compile_options(tandem_options INTERFACE
  -Wall -Wextra -Wpedantic -Wshadow -Wconversion -Wnon-virtual-dtor -Woverloaded-virtual -Werror)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  # g++ 12 reports impossible overflows inside inlined library code when it optimises.
  target_compile_options(tandem_options INTERFACE
    -Wno-error=maybe-uninitialized -Wno-error=array-bounds -Wno-error=stringop-overflow
    -Wno-error=stringop-overread -Wno-error=restrict
    # It does not see that a coroutine frame's allocation and release are a pair.
    -Wno-mismatched-new-delete)
endif()
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
endif()

# tandem_library(NAME SOURCES a.cpp … DEPS lib …): the static library NAME.
function(tandem_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  target_link_libraries(${name} PUBLIC tandem_options ${ARG_DEPS})
  tandem_sanitize(${name})
endfunction()

# tandem_program(NAME SOURCES a.cpp … DEPS lib …): the executable NAME, in the build's bin folder.
function(tandem_program name)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE tandem_options ${ARG_DEPS})
  set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/bin)
  tandem_sanitize(${name})
endfunction()

# tandem_test(NAME LABEL unit SOURCES a.cpp … DEPS lib … [TIMEOUT seconds] [SERIAL]): one GoogleTest program,
# its cases registered with ctest one by one under LABEL; SERIAL ones never run beside another test.
function(tandem_test name)
  cmake_parse_arguments(ARG "SERIAL" "LABEL;TIMEOUT" "SOURCES;DEPS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  tandem_program(${name} SOURCES ${ARG_SOURCES}
    DEPS ${ARG_DEPS} GTest::gtest GTest::gmock GTest::gtest_main rapidcheck)
  # tests_unit, tests_property, …: all programs of one label, for builds that want no others.
  if(NOT TARGET tests_${ARG_LABEL})
    add_custom_target(tests_${ARG_LABEL})
  endif()
  add_dependencies(tests_${ARG_LABEL} ${name})
  include(GoogleTest)
  gtest_discover_tests(${name} PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT}
    RUN_SERIAL ${ARG_SERIAL} DISCOVERY_TIMEOUT 60)
endfunction()

function(tandem_sanitize name)
  if(TANDEM_SANITIZE)
    target_compile_options(${name} PRIVATE -fsanitize=${TANDEM_SANITIZE} -fno-omit-frame-pointer)
    target_link_options(${name} PRIVATE -fsanitize=${TANDEM_SANITIZE})
    if(TANDEM_SANITIZE MATCHES thread)
      # Asio's fences stand beside locks and atomics, which ThreadSanitizer does understand.
      target_compile_options(${name} PRIVATE -Wno-tsan)
    endif()
    if(TANDEM_SANITIZE MATCHES undefined)
      target_compile_options(${name} PRIVATE -fno-sanitize-recover=all)
    endif()
  endif()
endfunction()
