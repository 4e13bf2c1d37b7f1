// weft presets: the specs that come with the program.

#include "client/presets/presets.h"

#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "client/commands.h"
#include "client/output.h"
#include "client/table.h"
#include "proto/spec/parse.h"
#include "proto/spec/print.h"

namespace weft::client {
namespace {

void List(OutputFormat format) {
  if (format == OutputFormat::kName) {
    for (const Preset& preset : Presets()) std::cout << preset.name << '\n';
    return;
  }
  if (IsForPrograms(format)) {
    std::vector<TextRecord> records;
    for (const Preset& preset : Presets()) {
      records.push_back(
          {{"name", std::string(preset.name)}, {"what", std::string(TitleOf(preset))}});
    }
    return PrintRecords(records, /*as_list=*/true, format, std::cout);
  }
  Table table({"NAME", "WHAT"});
  for (const Preset& preset : Presets()) {
    table.Add({std::string(preset.name), std::string(TitleOf(preset))});
  }
  table.Print(std::cout);
}

// The YAML with its comments but where another form is asked for.
void Show(const Preset& preset, OutputFormat format) {
  if (format == OutputFormat::kName) {
    std::cout << preset.name << '\n';
  } else if (format == OutputFormat::kJson) {
    v1::JobSpec spec;
    spec::ParseSpec(preset.text, spec);  // a test reads them all
    std::cout << spec::SpecToJson(spec);
  } else {
    std::cout << preset.text;
  }
}

}  // namespace

void AddPresets(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("presets", "List the job specs that come with the program");
  auto name = std::make_shared<std::string>();
  CLI::App* show = command->add_subcommand("show", "Print the YAML of one");
  show->add_option("NAME", *name)->required();
  command->callback([show, name, &session] {
    if (!show->parsed()) return List(session.output);
    const absl::StatusOr<Preset> preset = FindPreset(*name);
    if (!preset.ok()) return session.Fail(preset.status());
    Show(*preset, session.output);
  });
}

}  // namespace weft::client
