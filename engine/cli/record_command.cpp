#include "engine/cli/record_command.hpp"

#include <algorithm>

#include "engine/cli/fields.hpp"
#include "engine/cli/format.hpp"
#include "engine/cli/output.hpp"
#include "engine/cli/output_file.hpp"

namespace tandem::cli {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

// An interrupt is seen between two questions.
constexpr auto poll_interval = 500ms;

class Recorder {
 public:
  Recorder(const Connection& connection, const RecordOptions& options)
      : connection_(connection), options_(options) {}

  int run() {
    note_interrupt();
    const auto recorded = record();
    // Nothing was begun if there is no file.
    if (output_) report();
    return recorded ? exit_done : fail(recorded.error(), connection_.json && !output_);
  }

 private:
  Result<void> record() {
    const auto generation = ask_generation();
    if (!generation) return generation.error();
    const auto begin = steady_clock::now();
    for (;;) {
      auto wait = interrupted() ? 0ms : poll_interval;
      if (options_.limit > 0s) {
        const auto left = begin + options_.limit - steady_clock::now();
        wait = std::clamp(std::chrono::ceil<milliseconds>(left), 0ms, wait);
      }
      const auto answer =
          get(connection_,
              vm_path(options_.vm) + "/observations?after=" + std::to_string(recording_.after()) +
                  "&wait_ms=" + std::to_string(wait.count()),
              wait + answer_limit);
      if (!answer && answer.error().code == Errc::conflict && output_) {
        ended_ = true;
        return {};
      }
      if (!answer) return answer.error();
      // Another pair numbers its records from 1 again: what was answered is this one's if it still
      // is there now.
      const auto still = ask_generation();
      if (!still) return still.error();
      if (*still != *generation) {
        ended_ = true;
        return {};
      }
      const auto before = recording_.records();
      const auto taken = take(*answer);
      if (!taken) return taken.error();
      if (wait == 0ms && recording_.records() == before) return {};
    }
  }

  Result<std::uint64_t> ask_generation() const {
    const auto vm = get(connection_, vm_path(options_.vm));
    if (!vm) return vm.error();
    return number_at(*vm, "generation", 0);
  }

  Result<void> take(const json& answer) {
    const auto lines = recording_.take(answer);
    if (!lines) return lines.error();
    if (!output_) {
      auto output = OutputFile::open(options_.file, 0666);
      if (!output) return output.error();
      output_ = std::move(*output);
    }
    auto written = output_->write(*lines);
    if (written && stderr_is_terminal() && !output_->is_stdout()) {
      write_error("\r\x1b[K" + summary());
    }
    return written;
  }

  [[nodiscard]] std::string summary() const {
    const auto count = recording_.records();
    return options_.vm + ": " + std::to_string(count) + (count == 1 ? " record" : " records") +
           (output_->is_stdout() ? "" : " in " + options_.file) +
           (ended_ ? "; its protection here has ended" : "");
  }

  void report() const {
    if (stderr_is_terminal()) write_error("\r\x1b[K");
    if (output_->is_stdout()) {
      write_error(summary() + "\n");
    } else if (connection_.json) {
      print_json({{"vm", options_.vm},
                  {"file", options_.file},
                  {"records", recording_.records()},
                  {"ended", ended_}});
    } else {
      write_out(summary() + "\n");
    }
  }

  const Connection& connection_;
  const RecordOptions& options_;
  Recording recording_;
  std::optional<OutputFile> output_;
  bool ended_ = false;
};

}  // namespace

int record_vm(const Connection& connection, const RecordOptions& options) {
  return Recorder(connection, options).run();
}

Result<std::string> Recording::take(const json& answer) {
  const auto* vm = find(answer, "/vm");
  const auto* start = find(answer, "/start");
  const auto* first = find(answer, "/first");
  const auto* records = find(answer, "/records");
  const bool is_answer = vm != nullptr && first != nullptr && first->is_number_unsigned() &&
                         records != nullptr && records->is_array();
  if (!is_answer || (!wanted_ && start == nullptr)) {
    return Error{Errc::protocol, "tandemd answered without vm, start, first or records"};
  }
  std::string lines;
  if (!wanted_) {
    wanted_ = first->get<std::uint64_t>();
    lines = dump({{"tandem_recording", 1}, {"vm", *vm}, {"start", *start}}) + "\n";
  }
  const auto oldest = first->get<std::uint64_t>();
  if (oldest > *wanted_) {
    return Error{Errc::limit, "records " + std::to_string(*wanted_) + " to " +
                                  std::to_string(oldest - 1) +
                                  " are missing: they came faster than they were read, and tandemd "
                                  "keeps the newest only"};
  }
  for (const auto& record : *records) {
    if (number_at(record, "seq", 0) != *wanted_) {
      return Error{Errc::protocol, "tandemd answered record " + text_at(record, "/seq") + "; " +
                                       std::to_string(*wanted_) + " was expected"};
    }
    lines += dump(record) + "\n";
    after_ = (*wanted_)++;
    ++records_;
  }
  return lines;
}

}  // namespace tandem::cli
