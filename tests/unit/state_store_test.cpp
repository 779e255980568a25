// What a daemon remembers across its own death.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "base/file.hpp"
#include "engine/daemon/state_store.hpp"
#include "tests/unit/temporary_folder.hpp"

namespace tandem::daemon {
namespace {

using testing::AllOf;
using testing::HasSubstr;

class StateStoreTest : public testing::Test {
 protected:
  void SetUp() override { ASSERT_TRUE(store_.prepare()); }
  static VmState state(const std::string& name) {
    VmState state;
    state.definition.name = name;
    state.definition.kernel = "/boot/vmlinux";
    state.definition.nics = {{"n0", "52:54:00:00:00:01", "tnd0", "br0"}};
    state.process = {4711, 987654321};
    state.role = Role::secondary;
    state.generation = std::uint64_t{1} << 40;
    state.peer = "beta";
    proxy::FlowKey flow;
    flow.kind = proxy::Kind::tcp;
    flow.protocol = 6;
    flow.guest_port = 6379;
    state.translations["n0"] = {{flow, {0x01020304, 7}}};
    return state;
  }
  [[nodiscard]] std::filesystem::path file(const std::string& name) const {
    return folder_.path() / "vms" / (name + ".json");
  }
  /// The one error that loading gives.
  Error only_error() {
    std::vector<Error> errors;
    EXPECT_TRUE(store_.load_all(errors).empty());
    EXPECT_EQ(errors.size(), 1u);
    return errors.empty() ? Error{Errc::closed, ""} : errors[0];
  }

  test::TemporaryFolder folder_;
  StateStore store_{folder_.path()};
};

TEST_F(StateStoreTest, RoundTripsEveryFieldAndEveryRole) {
  for (const auto role : {Role::none, Role::primary, Role::secondary, Role::solo}) {
    auto saved = state("demo");
    saved.role = role;
    ASSERT_TRUE(store_.save(saved));
    std::vector<Error> errors;
    const auto loaded = store_.load_all(errors);
    EXPECT_TRUE(errors.empty());
    ASSERT_EQ(loaded.size(), 1u);
    EXPECT_EQ(loaded[0].definition, saved.definition);
    EXPECT_EQ(loaded[0].process, saved.process);
    EXPECT_EQ(loaded[0].role, role);
    EXPECT_EQ(loaded[0].generation, saved.generation);
    EXPECT_EQ(loaded[0].peer, "beta");
    EXPECT_EQ(loaded[0].translations, saved.translations);
  }
}

TEST_F(StateStoreTest, RemovesOneAndKeepsTheOthers) {
  ASSERT_TRUE(store_.save(state("one")));
  ASSERT_TRUE(store_.save(state("two")));
  ASSERT_TRUE(store_.remove("one"));
  EXPECT_TRUE(store_.remove("one")) << "removing what is not there is no error";
  std::vector<Error> errors;
  const auto loaded = store_.load_all(errors);
  ASSERT_EQ(loaded.size(), 1u);
  EXPECT_EQ(loaded[0].definition.name, "two");
}

TEST_F(StateStoreTest, EveryTruncationIsReportedByFileNameBesideTheOthers) {
  ASSERT_TRUE(store_.save(state("whole")));
  ASSERT_TRUE(store_.save(state("torn")));
  const auto text = *read_file(file("torn"));
  for (std::size_t length = 0; length < text.size(); ++length) {
    test::write_text(file("torn"), std::string_view(text).substr(0, length));
    std::vector<Error> errors;
    const auto loaded = store_.load_all(errors);
    ASSERT_EQ(loaded.size(), 1u) << length;
    EXPECT_EQ(loaded[0].definition.name, "whole");
    ASSERT_EQ(errors.size(), 1u) << length;
    EXPECT_THAT(errors[0].message, HasSubstr(file("torn").string()));
  }
}

TEST_F(StateStoreTest, AnotherFormatIsReportedAsAnotherVersion) {
  ASSERT_TRUE(store_.save(state("demo")));
  auto json = nlohmann::json::parse(*read_file(file("demo")));
  for (const nlohmann::json& format : {nlohmann::json(1), nlohmann::json("2"), nlohmann::json()}) {
    json["format"] = format;
    test::write_text(file("demo"), json.dump());
    EXPECT_THAT(only_error().message,
                AllOf(HasSubstr(file("demo").string()), HasSubstr("another version")));
  }
}

TEST_F(StateStoreTest, EveryMissingOrMistypedFieldIsReported) {
  ASSERT_TRUE(store_.save(state("demo")));
  const auto whole = nlohmann::json::parse(*read_file(file("demo")));
  for (const auto& [key, value] : whole.items()) {
    auto json = whole;
    json.erase(key);
    test::write_text(file("demo"), json.dump());
    EXPECT_THAT(only_error().message, HasSubstr(file("demo").string())) << "without " << key;
    json[key] = nlohmann::json::array({nullptr});
    test::write_text(file("demo"), json.dump());
    EXPECT_THAT(only_error().message, HasSubstr(file("demo").string())) << "mistyped " << key;
  }
}

TEST_F(StateStoreTest, AnUnknownRoleIsReportedByItsName) {
  ASSERT_TRUE(store_.save(state("demo")));
  auto json = nlohmann::json::parse(*read_file(file("demo")));
  json["role"] = "emperor";
  test::write_text(file("demo"), json.dump());
  EXPECT_THAT(only_error().message, HasSubstr("emperor"));
}

TEST_F(StateStoreTest, TemporaryAndForeignFilesAreLeftAlone) {
  ASSERT_TRUE(store_.save(state("demo")));
  test::write_text(file("demo").string() + ".new", "half a fi");
  test::write_text(folder_.path() / "vms" / "README", "hello");
  std::vector<Error> errors;
  EXPECT_EQ(store_.load_all(errors).size(), 1u);
  EXPECT_TRUE(errors.empty());
}

TEST_F(StateStoreTest, AFolderThatCannotBeReadIsAnError) {
  const StateStore lost(folder_.path() / "gone");
  std::vector<Error> errors;
  EXPECT_TRUE(lost.load_all(errors).empty());
  ASSERT_EQ(errors.size(), 1u);
  EXPECT_THAT(errors[0].message, HasSubstr("gone"));
}

}  // namespace
}  // namespace tandem::daemon
