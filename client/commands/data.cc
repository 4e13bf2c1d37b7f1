// weft data: training data on this machine. The work is done by programs of the worker's side,
// which this one becomes.

#include <memory>
#include <string>
#include <vector>

#include "client/commands.h"
#include "client/programs.h"
#include "client/within.h"
#include "common/base/status_macros.h"
#include "proto/spec/print.h"

namespace weft::client {
namespace {

absl::Status Print(const JobSource& job, bool validation, int64_t first, int64_t count) {
  WEFT_ASSIGN_OR_RETURN(const v1::JobSpec spec, ReadJob(job));
  WEFT_RETURN_IF_ERROR(GiveAsInput(spec::SpecToYaml(spec)));
  std::vector<std::string> arguments = {"print-data", "--first", std::to_string(first), "--count",
                                        std::to_string(count)};
  if (validation) arguments.emplace_back("--validation");
  return BecomeProgram("weft-rank", arguments);
}

// A command whose arguments weft-data understands.
void AddForwarded(CLI::App& data, Session& session, const std::string& name,
                  const std::string& description) {
  CLI::App* command = data.add_subcommand(name, description);
  command->set_help_flag();  // weft-data has the help
  command->fallthrough(false);
  command->prefix_command();
  command->callback([command, name, &session] {
    std::vector<std::string> arguments = command->remaining();
    arguments.insert(arguments.begin(), name);
    session.Fail(BecomeProgram("weft-data", arguments));
  });
}

}  // namespace

void AddData(CLI::App& app, Session& session) {
  CLI::App* data = app.add_subcommand("data", "Prepare and look at training data on this machine");
  data->require_subcommand(1);
  AddForwarded(*data, session, "tokenize", "Turn texts into token files");
  AddForwarded(*data, session, "listops", "Make the ListOps files of the Long Range Arena");

  struct Flags {
    JobSource job;
    bool validation = false;
    int64_t first = 0;
    int64_t count = 1;
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* print = data->add_subcommand("print", "Print samples of a job's data, one JSON a line");
  AddJobSource(*print, flags->job);
  print->add_flag("--validation", flags->validation, "Of the validation split, not the training's");
  print->add_option("--first", flags->first, "Number of the first sample, from 0")
      ->check(Within<int64_t>(0))
      ->capture_default_str();
  print->add_option("-n,--count", flags->count, "How many samples")
      ->check(Within<int64_t>(1))
      ->capture_default_str();
  print->callback([flags, &session] {
    session.Fail(Print(flags->job, flags->validation, flags->first, flags->count));
  });
}

}  // namespace weft::client
