#include "controller/observation.hpp"

namespace tandem::controller {

std::string_view to_string(Reason reason) noexcept {
  switch (reason) {
    case Reason::start:
      return "start";
    case Reason::fixed:
      return "fixed";
    case Reason::stay:
      return "stay";
    case Reason::frequent:
      return "frequent";
    case Reason::stay_over:
      return "stay-over";
    case Reason::over_bound:
      return "over-bound";
    case Reason::costly:
      return "costly";
    case Reason::probe:
      return "probe";
  }
  return "unknown";
}

}  // namespace tandem::controller
