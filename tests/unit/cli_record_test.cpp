// `tandem record`, against an API server that answers from a real log of decisions.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>

#include "base/file.hpp"
#include "engine/cli/output.hpp"
#include "engine/cli/record_command.hpp"
#include "engine/control/replay.hpp"
#include "tests/unit/control_fixture.hpp"
#include "tests/unit/fake_daemon.hpp"

namespace tandem::cli {
namespace {

using namespace std::chrono_literals;
using control::LoggedPair;
using controller::Policy;
using nlohmann::json;
using test::answered;
using testing::HasSubstr;

/// A daemon with the VM "web", whose pair lives while it is asked.
class RecordedVm {
 public:
  /// Called before question number `n` for observations, from 1, is answered; an error is the
  /// answer.
  using BeforeAnswer = std::function<Result<void>(int n, RecordedVm& vm)>;

  explicit RecordedVm(BeforeAnswer before, std::size_t capacity = 4096)
      : pair(Policy::hybrid, capacity),
        before_(std::move(before)),
        daemon_([this](const api::Request& request) { return answer(request); }) {}

  [[nodiscard]] std::filesystem::path socket() const { return daemon_.socket(); }
  [[nodiscard]] std::filesystem::path file() const { return daemon_.folder() / "web.recording"; }

  LoggedPair pair;
  std::uint64_t generation = 3;
  std::optional<json> other_answer;  ///< instead of observations

 private:
  Result<json> answer(const api::Request& request) {
    if (request.path == "/v1/vms/web") return answered({{"generation", generation}});
    if (request.path != "/v1/vms/web/observations") return Error{Errc::not_found, "no such VM"};
    const auto ready = before_(++questions_, *this);
    if (!ready) return ready.error();
    if (other_answer) return answered(*other_answer);
    return answered(pair.answer(api::query_number(request, "after", 0, UINT64_MAX).value(), 20));
  }

  BeforeAnswer before_;
  int questions_ = 0;
  test::FakeDaemon daemon_;
};

Result<void> nothing_happens(int, RecordedVm&) {
  return {};
}

void interrupt() {
  ::kill(::getpid(), SIGINT);
}

struct Ran {
  int status;
  std::string out, err;
};

Ran record(const RecordedVm& vm, const std::string& file, std::chrono::seconds limit = 0s,
           bool as_json = false, const std::string& name = "web") {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int status = record_vm({vm.socket(), as_json}, {name, file, limit});
  auto out = testing::internal::GetCapturedStdout();
  return {status, std::move(out), testing::internal::GetCapturedStderr()};
}

control::Replay::Summary replayed(const std::string& file) {
  std::ifstream in(file);
  const auto summary = control::Replay::run(in);
  if (!summary) ADD_FAILURE() << summary.error().message;
  return summary ? *summary : control::Replay::Summary{};
}

TEST(CliRecord, WritesWhatIsKeptAndWhatComesUntilInterrupted) {
  std::string expected;
  RecordedVm vm([&](int n, RecordedVm& self) -> Result<void> {
    if (n == 1) self.pair.live(50);
    if (n == 5) self.pair.live(7);
    if (n == 6) self.pair.change(Policy::threshold, {});
    if (n == 7) {
      self.pair.live(3);
      expected = self.pair.recording();
      interrupt();
    }
    return {};
  });
  const auto ran = record(vm, vm.file());
  EXPECT_EQ(ran.status, exit_done);
  EXPECT_EQ(ran.out, "web: 61 records in " + vm.file().string() + "\n");
  EXPECT_EQ(ran.err, "");
  EXPECT_EQ(*read_file(vm.file()), expected);
  const auto summary = replayed(vm.file());
  EXPECT_EQ(summary.decisions, 60u);
  EXPECT_EQ(summary.changes, 1u);
  EXPECT_EQ(summary.differences, 0u);
}

TEST(CliRecord, BeginsWithTheOldestThatIsKept) {
  RecordedVm vm(
      [](int n, RecordedVm& self) -> Result<void> {
        if (n == 1) self.pair.live(100);
        if (n == 2) interrupt();
        return {};
      },
      30);
  EXPECT_EQ(record(vm, vm.file()).out, "web: 30 records in " + vm.file().string() + "\n");
  EXPECT_EQ(replayed(vm.file()).differences, 0u);
}

TEST(CliRecord, AGapIsAnErrorThatSaysWhatIsMissing) {
  RecordedVm vm(
      [](int n, RecordedVm& self) -> Result<void> {
        if (n == 1) self.pair.live(5);
        if (n == 2) self.pair.live(40);
        return {};
      },
      10);
  const auto ran = record(vm, vm.file());
  EXPECT_EQ(ran.status, exit_failed);
  EXPECT_EQ(
      ran.err,
      "tandem: records 6 to 35 are missing: they came faster than they were read, and tandemd "
      "keeps the newest only\n");
  EXPECT_THAT(ran.out, HasSubstr("web: 5 records"));
  EXPECT_EQ(replayed(vm.file()).decisions, 5u) << "what came before is whole";
}

TEST(CliRecord, AGapBeforeTheFirstRecordIsOneToo) {
  RecordedVm vm(
      [](int n, RecordedVm& self) -> Result<void> {
        if (n == 2) self.pair.live(11);
        return {};
      },
      10);
  EXPECT_THAT(record(vm, vm.file()).err, HasSubstr("records 1 to 1 are missing"));
}

TEST(CliRecord, EndsAfterItsTimeWithEverythingThatIsThere) {
  RecordedVm vm([](int n, RecordedVm& self) -> Result<void> {
    if (n == 1) self.pair.live(95);
    // As the daemon, which waits for a record.
    if (n > 6) std::this_thread::sleep_for(50ms);
    return {};
  });
  const auto begin = std::chrono::steady_clock::now();
  const auto ran = record(vm, vm.file(), 1s);
  EXPECT_EQ(ran.status, exit_done);
  EXPECT_GE(std::chrono::steady_clock::now() - begin, 1s);
  EXPECT_THAT(ran.out, HasSubstr("95 records"));
}

TEST(CliRecord, AnInterruptLeavesNothingBehindThatWasKept) {
  RecordedVm vm([](int n, RecordedVm& self) -> Result<void> {
    if (n == 1) {
      self.pair.live(95);
      interrupt();
    }
    return {};
  });
  EXPECT_THAT(record(vm, vm.file()).out, HasSubstr("95 records"));
}

TEST(CliRecord, TheEndOfProtectionIsTheEndOfTheRecording) {
  RecordedVm vm([](int n, RecordedVm& self) -> Result<void> {
    if (n == 1) self.pair.live(5);
    if (n == 2) return Error{Errc::conflict, "web has no controller"};
    return {};
  });
  const auto ran = record(vm, vm.file());
  EXPECT_EQ(ran.status, exit_done);
  EXPECT_EQ(ran.out,
            "web: 5 records in " + vm.file().string() + "; its protection here has ended\n");
  EXPECT_EQ(replayed(vm.file()).decisions, 5u);
}

TEST(CliRecord, AnotherPairIsAnotherRecording) {
  RecordedVm vm([](int n, RecordedVm& self) -> Result<void> {
    if (n == 1) self.pair.live(5);
    if (n == 2) {
      self.pair = LoggedPair(Policy::hybrid);
      self.pair.live(30);
      ++self.generation;
    }
    return {};
  });
  EXPECT_THAT(record(vm, vm.file()).out, HasSubstr("web: 5 records"));
  EXPECT_EQ(replayed(vm.file()).decisions, 5u);
}

TEST(CliRecord, AVmWithoutAControllerLeavesFilesAlone) {
  RecordedVm vm([](int, RecordedVm&) -> Result<void> {
    return Error{Errc::conflict, "web has no controller"};
  });
  test::write_text(vm.file(), "precious");
  for (const auto* name : {"web", "wed"}) {
    const auto ran = record(vm, vm.file(), 0s, false, name);
    EXPECT_EQ(ran.status, exit_failed);
    EXPECT_THAT(ran.err, testing::StartsWith("tandem: "));
    EXPECT_EQ(ran.out, "");
  }
  EXPECT_EQ(*read_file(vm.file()), "precious");
}

TEST(CliRecord, GoesToStandardOutputAndItsSummaryElsewhere) {
  std::string expected;
  RecordedVm vm([&](int n, RecordedVm& self) -> Result<void> {
    if (n == 1) {
      self.pair.live(1);
      expected = self.pair.recording();
      interrupt();
    }
    return {};
  });
  const auto ran = record(vm, "-");
  EXPECT_EQ(ran.out, expected);
  EXPECT_EQ(ran.err, "web: 1 record\n");
}

TEST(CliRecord, ItsSummaryIsJsonIfWanted) {
  RecordedVm vm([](int n, RecordedVm& self) -> Result<void> {
    if (n == 1) self.pair.live(2);
    if (n == 2) interrupt();
    return {};
  });
  const json expected{
      {"vm", "web"}, {"file", vm.file().string()}, {"records", 2}, {"ended", false}};
  EXPECT_EQ(json::parse(record(vm, vm.file(), 0s, true).out), expected);
}

TEST(CliRecord, AFileThatCannotBeWrittenIsNamed) {
  RecordedVm vm(nothing_happens);
  const auto ran = record(vm, vm.file() / "no-folder");
  EXPECT_EQ(ran.status, exit_failed);
  EXPECT_THAT(ran.err, HasSubstr("cannot write " + vm.file().string() + "/no-folder"));
  if (::access("/dev/full", W_OK) != 0) GTEST_SKIP() << "there is no /dev/full";
  const auto full = record(vm, "/dev/full");
  EXPECT_EQ(full.status, exit_failed);
  EXPECT_THAT(full.err, HasSubstr("cannot write /dev/full: No space left on device"));
}

TEST(CliRecord, AnAnswerThatIsNoneIsAnError) {
  const auto right = LoggedPair(Policy::colo).answer();
  auto another_number = right;
  another_number["records"] = {{{"seq", 2}}};
  for (const auto& other : {json(), json::array(), json::object(), another_number}) {
    RecordedVm vm(nothing_happens);
    vm.other_answer = other;
    const auto ran = record(vm, vm.file());
    EXPECT_EQ(ran.status, exit_failed) << other;
    EXPECT_THAT(ran.err, HasSubstr("tandem: tandemd answered ")) << other;
  }
}

}  // namespace
}  // namespace tandem::cli
