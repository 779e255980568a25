# Run by `cmake -P` while building: writes the C++ file OUTPUT, which defines the list `embedded_files` of
# HEADER in NAMESPACE: the FILES of FOLDER with their bytes.
#
#   cmake -D OUTPUT=… -D HEADER=… -D NAMESPACE=… -D FOLDER=… -D FILES=a,b -P EmbedFiles.cmake

string(REPLACE "," ";" files "${FILES}")
set(arrays "")
set(entries "")
set(number 0)
foreach(file IN LISTS files)
  file(READ "${FOLDER}/${file}" bytes HEX)
  string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
  string(APPEND arrays "constexpr unsigned char file_${number}[] = {${bytes}};\n")
  string(APPEND entries "    {\"${file}\", view(file_${number})},\n")
  math(EXPR number "${number} + 1")
endforeach()

file(WRITE "${OUTPUT}" "// Made by cmake/EmbedFiles.cmake.
#include \"${HEADER}\"

namespace ${NAMESPACE} {
namespace {

${arrays}
template <std::size_t size>
std::string_view view(const unsigned char (&bytes)[size]) {
  return {reinterpret_cast<const char*>(bytes), size};
}

}  // namespace

const std::vector<EmbeddedFile>& embedded_files() {
  static const std::vector<EmbeddedFile> files{
${entries}  };
  return files;
}

}  // namespace ${NAMESPACE}
")
