// weft plot.

#include "client/plot.h"

#include <algorithm>
#include <iostream>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/commands.h"
#include "client/list_all.h"
#include "client/terminal.h"
#include "client/text.h"
#include "common/base/status_macros.h"
#include "common/file/durable_file.h"

namespace weft::client {
namespace {

constexpr int kPoints = 2000;  // more than a screen or a page has dots
constexpr int kMostColumns = 120;
constexpr int kMostRows = 24;

struct PlotFlags {
  std::string job;
  std::string metric = "loss";
  std::string file;
};

using Steps = std::vector<v1::StepReport>;
using Metrics = google::protobuf::RepeatedPtrField<v1::StepMetric>;

// Of the whole model, not of a layer.
std::optional<double> Find(const Metrics& metrics, const std::string& name) {
  for (const v1::StepMetric& metric : metrics) {
    if (metric.name() == name && !metric.has_layer()) return metric.value();
  }
  return std::nullopt;
}

std::optional<double> TrainingValue(const v1::StepReport& step, const std::string& name) {
  if (name == "loss") return step.loss();
  if (name == "gradient_norm") return step.gradient_norm();
  if (name == "learning_rate") return step.learning_rate();
  if (name == "tokens_per_second") {
    if (step.seconds() <= 0) return std::nullopt;
    return static_cast<double>(step.tokens()) / step.seconds();
  }
  return Find(step.metrics(), name);
}

std::optional<double> ValidationValue(const v1::StepReport& step, const std::string& name) {
  if (name != "loss") return Find(step.validation_metrics(), name);
  if (!step.has_validation_loss()) return std::nullopt;
  return step.validation_loss();
}

std::vector<Curve> CurvesOf(const Steps& steps, const std::string& metric) {
  Curve training = {.name = metric, .points = {}, .marks = false};
  Curve validation = {.name = absl::StrCat("validation ", metric), .points = {}, .marks = true};
  for (const v1::StepReport& step : steps) {
    const auto x = static_cast<double>(step.step());
    if (const auto y = TrainingValue(step, metric)) training.points.push_back({x, *y});
    if (const auto y = ValidationValue(step, metric)) validation.points.push_back({x, *y});
  }
  std::vector<Curve> curves;
  for (Curve& curve : std::vector<Curve>{training, validation}) {
    if (!curve.points.empty()) curves.push_back(std::move(curve));
  }
  return curves;
}

std::string MetricsOf(const Steps& steps) {
  std::set<std::string> names = {"loss", "gradient_norm", "learning_rate", "tokens_per_second"};
  for (const v1::StepReport& step : steps) {
    for (const v1::StepMetric& metric : step.metrics()) names.insert(metric.name());
    for (const v1::StepMetric& metric : step.validation_metrics()) names.insert(metric.name());
  }
  return absl::StrJoin(names, ", ");
}

absl::Status Plot(Session& session, const PlotFlags& flags) {
  const bool svg = absl::EndsWith(flags.file, ".svg");
  if (!flags.file.empty() && !svg && !absl::EndsWith(flags.file, ".png")) {
    return absl::InvalidArgumentError(
        absl::StrCat("--output must be a file that ends in .svg or .png, is '", flags.file, "'"));
  }
  WEFT_ASSIGN_OR_RETURN(const std::string name, session.FindJob(flags.job));
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::JobService::NewStub(channel);
  v1::ListStepsRequest request;
  request.set_name(name);
  request.set_max_points(kPoints);
  WEFT_ASSIGN_OR_RETURN(
      const Steps steps,
      ListAll<v1::StepReport>(session, *stub, &v1::JobService::Stub::ListSteps, request,
                              [](auto& response) { return response.mutable_steps(); }));
  if (steps.empty()) {
    return absl::FailedPreconditionError(absl::StrCat(ShortName(name), " has taken no step yet"));
  }
  const std::vector<Curve> curves = CurvesOf(steps, flags.metric);
  if (curves.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("--metric: ", ShortName(name), " has no '",
                                                   flags.metric, "'; it has ", MetricsOf(steps)));
  }
  if (!flags.file.empty()) {
    const Picture picture = DrawPicture(curves, ShortName(name));
    WEFT_ASSIGN_OR_RETURN(const std::string bytes,
                          svg ? absl::StatusOr<std::string>(ToSvg(picture)) : ToPng(picture));
    return WriteFileDurably(RealFileSystem(), flags.file, bytes);
  }
  std::cout << DrawText(curves, std::min(TerminalWidth(), kMostColumns),
                        std::clamp(TerminalHeight() - 4, 4, kMostRows), IsUtf8Environment());
  return absl::OkStatus();
}

}  // namespace

void AddPlot(CLI::App& app, Session& session) {
  auto flags = std::make_shared<PlotFlags>();
  CLI::App* command = app.add_subcommand("plot", "Draw how a job's loss, or another number, went");
  command->add_option("JOB", flags->job, "Its id, or its spec's name for the newest one")
      ->required();
  command
      ->add_option("--metric", flags->metric,
                   "loss, gradient_norm, learning_rate, tokens_per_second, or what the job's "
                   "task reports: accuracy, bits_per_byte, perplexity, ...")
      ->capture_default_str();
  command->add_option("-o,--output", flags->file,
                      "A file NAME.svg or NAME.png to draw into, in place of the terminal");
  command->callback([flags, &session] { session.Fail(Plot(session, *flags)); });
}

}  // namespace weft::client
