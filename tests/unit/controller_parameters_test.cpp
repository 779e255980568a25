// The table of parameters: what is refused, and that docs/controller.md shows the same.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <sstream>

#include "controller/controller.hpp"

namespace tandem::controller {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

std::string number(double value) {
  std::ostringstream text;
  text.precision(12);
  text << value;
  return text.str();
}

class EachParameter : public testing::TestWithParam<ParameterInfo> {};
INSTANTIATE_TEST_SUITE_P(Controller, EachParameter,
                         testing::ValuesIn(parameter_table().begin(), parameter_table().end()),
                         [](const auto& row) { return std::string(row.param.name); });

TEST_P(EachParameter, IsFoundByItsName) {
  const auto* found = find_parameter(GetParam().name);
  ASSERT_NE(found, nullptr);
  EXPECT_EQ(found->value, GetParam().value);
}

TEST_P(EachParameter, HasADefaultThatCanBeSet) {
  Parameters parameters;
  EXPECT_EQ(set(parameters, GetParam().name, Parameters().*GetParam().value), std::nullopt);
  EXPECT_EQ(parameters, Parameters());
}

TEST_P(EachParameter, TakesBothEndsOfItsRange) {
  for (const double value : {GetParam().min, GetParam().max}) {
    Parameters parameters;
    EXPECT_EQ(set(parameters, GetParam().name, value), std::nullopt);
    EXPECT_EQ(parameters.*GetParam().value, value);
  }
}

TEST_P(EachParameter, RefusesWhatIsOutsideOfItsRangeByNameAndChangesNothing) {
  const auto& info = GetParam();
  const auto infinity = std::numeric_limits<double>::infinity();
  for (const double value :
       {std::nextafter(info.min, -infinity), info.min - 1, std::nextafter(info.max, infinity),
        info.max + 1, infinity, -infinity, std::numeric_limits<double>::quiet_NaN()}) {
    Parameters parameters;
    const auto wrong = set(parameters, info.name, value);
    ASSERT_TRUE(wrong) << value;
    EXPECT_THAT(*wrong,
                AllOf(StartsWith(std::string(info.name) + " is "),
                      HasSubstr("expected " + number(info.min) + " to " + number(info.max))));
    EXPECT_EQ(parameters, Parameters());
  }
}

TEST_P(EachParameter, RefusesAFractionOfACount) {
  const auto& info = GetParam();
  Parameters parameters;
  const auto wrong = set(parameters, info.name, info.min + 0.5);
  EXPECT_EQ(wrong.has_value(), info.whole);
  if (!wrong) return;
  EXPECT_EQ(*wrong,
            std::string(info.name) + " is " + number(info.min + 0.5) + "; expected a whole number");
  EXPECT_EQ(parameters, Parameters());
}

TEST(ControllerParameters, TheTableHasEachOnceAndInTheOrderOfTheStruct) {
  const auto table = parameter_table();
  ASSERT_EQ(table.size() * sizeof(double), sizeof(Parameters)) << "one is not in the table";
  const Parameters parameters;
  const auto* first = reinterpret_cast<const double*>(&parameters);
  for (std::size_t i = 0; i < table.size(); ++i) {
    EXPECT_EQ(&(parameters.*table[i].value), first + i) << table[i].name;
    EXPECT_FALSE(table[i].unit.empty()) << table[i].name;
    EXPECT_FALSE(table[i].meaning.empty()) << table[i].name;
  }
}

TEST(ControllerParameters, AnUnknownNameIsRefused) {
  Parameters parameters;
  EXPECT_EQ(set(parameters, "hybrid_gian", 1), "hybrid_gian is not a parameter of the controller");
  EXPECT_EQ(find_parameter(""), nullptr);
}

TEST(ControllerParameters, WhereThePaperGivesANumberItIsTheDefault) {
  const Parameters parameters;
  EXPECT_EQ(parameters.period_ms, 250);
  EXPECT_EQ(parameters.colo_checkpoint_max_ms, 10'000);
  EXPECT_EQ(parameters.window_s, 10);
  EXPECT_EQ(parameters.threshold_interval_ms, 400);
  EXPECT_EQ(parameters.threshold_stay, 100);
  EXPECT_EQ(parameters.hybrid_stay, 25);
  EXPECT_EQ(parameters.hybrid_measure, 25);
  EXPECT_EQ(parameters.hybrid_sigma_start, 1);
  EXPECT_EQ(parameters.hybrid_gain, 0.01);
  EXPECT_EQ(parameters.hybrid_integral_time_s, 3);
  EXPECT_EQ(parameters.hybrid_set_point, 1.5);
}

TEST(ControllerParameters, TheDefaultsDoNotContradictEachOther) {
  EXPECT_EQ(check(Parameters()), std::nullopt);
}

TEST(ControllerParameters, AMinimumAboveItsMaximumIsRefused) {
  Parameters parameters;
  parameters.hybrid_sigma_min = parameters.hybrid_sigma_max + 1;
  EXPECT_EQ(check(parameters), "hybrid_sigma_min is above hybrid_sigma_max");
  parameters = {};
  parameters.hybrid_bound_min = parameters.hybrid_bound_max + 1;
  EXPECT_EQ(check(parameters), "hybrid_bound_min is above hybrid_bound_max");
  parameters = {};
  parameters.hybrid_bound_min = parameters.hybrid_bound_max;
  parameters.hybrid_sigma_min = parameters.hybrid_sigma_max;
  EXPECT_EQ(check(parameters), std::nullopt);
}

TEST(ControllerParameters, APeriodThatTheGreatestRateForbidsIsRefused) {
  Parameters parameters;
  parameters.period_ms = 40;
  parameters.checkpoint_rate_max = 20;
  EXPECT_EQ(check(parameters),
            "a period of 40 ms is more than checkpoint_rate_max, 20 checkpoints per second");
  parameters.checkpoint_rate_max = 25;
  EXPECT_EQ(check(parameters), std::nullopt);
}

TEST(ControllerParameters, AThresholdThatColoModeCanNeverStayAboveIsRefused) {
  Parameters parameters;
  parameters.threshold_interval_ms = 5'000;
  parameters.colo_checkpoint_max_ms = 5'000;
  EXPECT_THAT(check(parameters).value_or(""), StartsWith("threshold_interval_ms, 5000, is not"));
  parameters.colo_checkpoint_max_ms = 5'001;
  EXPECT_EQ(check(parameters), std::nullopt);
}

TEST(ControllerParameters, ATrialThatCannotFailIsRefused) {
  Parameters parameters;
  parameters.hybrid_verdict = parameters.hybrid_measure + 1;
  EXPECT_THAT(check(parameters).value_or(""), StartsWith("hybrid_verdict is above hybrid_measure"));
}

std::string document() {
  std::ifstream file(TANDEM_SOURCE_DIR "/docs/controller.md");
  if (!file) ADD_FAILURE() << "docs/controller.md cannot be read";
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(ControllerDocs, TheDocumentHasEveryFigureAndReason) {
  const auto text = document();
  for (const auto policy : policies) {
    EXPECT_THAT(text, HasSubstr("\n| `" + std::string(to_string(policy)) + "` |"));
    for (const auto& figure : Controller(policy, Parameters()).figures()) {
      EXPECT_THAT(text, HasSubstr("\n| `" + std::string(figure.name) + "` |"));
    }
  }
  for (std::size_t i = 0; i < reason_count; ++i) {
    EXPECT_THAT(text, HasSubstr("\n| `" + std::string(to_string(static_cast<Reason>(i))) + "` |"));
  }
}

TEST(ControllerDocs, TheDocumentHasTheTableOfParameters) {
  std::string expected;
  for (const auto& info : parameter_table()) {
    expected += "| `" + std::string(info.name) + "` | " + number(Parameters().*info.value) + " | " +
                number(info.min) + " to " + number(info.max) + (info.whole ? ", whole" : "") +
                " | " + std::string(info.unit) + " | " + std::string(info.meaning) + " |\n";
  }
  EXPECT_NE(document().find(expected), std::string::npos)
      << "these rows should stand there together:\n"
      << expected;
}

}  // namespace
}  // namespace tandem::controller
