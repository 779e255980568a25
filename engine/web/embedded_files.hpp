// The files of the page, as they stand in engine/web/page/, inside the program.
#pragma once

#include <string_view>
#include <vector>

namespace tandem::web {

struct EmbeddedFile {
  std::string_view name;  ///< "index.html"
  std::string_view bytes;
};

const std::vector<EmbeddedFile>& embedded_files();

}  // namespace tandem::web
