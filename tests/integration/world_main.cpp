// main() for tests that need a private network: the whole program runs in the sandbox. Where the
// machine does not allow one, every test is skipped with the reason.
#include <gtest/gtest.h>

#include <cstdlib>
#include <string_view>

#include "experiments/world/sandbox.hpp"

namespace {

class NeedsSandbox : public testing::Environment {
 public:
  explicit NeedsSandbox(std::string refusal) : refusal_(std::move(refusal)) {}
  void SetUp() override {
    if (!refusal_.empty()) GTEST_SKIP() << refusal_;
  }

 private:
  std::string refusal_;
};

}  // namespace

int main(int argc, char** argv) {
  bool only_lists = false;
  for (int i = 1; i < argc; ++i)
    only_lists = only_lists || std::string_view(argv[i]) == "--gtest_list_tests";
  std::string refusal;
  if (!only_lists) {
    if (auto inside = tandem::world::enter_sandbox(); !inside) refusal = inside.error().message;
  }
  testing::InitGoogleTest(&argc, argv);
  testing::AddGlobalTestEnvironment(new NeedsSandbox(refusal));
  return RUN_ALL_TESTS();
}
