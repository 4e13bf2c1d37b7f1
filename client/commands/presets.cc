// weft presets: the specs that come with the program.

#include "client/presets/presets.h"

#include <iostream>
#include <memory>
#include <string>

#include "client/commands.h"
#include "client/table.h"

namespace weft::client {
namespace {

void List() {
  Table table({"NAME", "WHAT"});
  for (const Preset& preset : Presets()) {
    table.Add({std::string(preset.name), std::string(TitleOf(preset))});
  }
  table.Print(std::cout);
}

}  // namespace

void AddPresets(CLI::App& app, Session& session) {
  CLI::App* command =
      app.add_subcommand("presets", "List the job specs that come with the program");
  auto name = std::make_shared<std::string>();
  CLI::App* show = command->add_subcommand("show", "Print the YAML of one");
  show->add_option("NAME", *name)->required();
  command->callback([show, name, &session] {
    if (!show->parsed()) return List();
    const absl::StatusOr<Preset> preset = FindPreset(*name);
    if (!preset.ok()) return session.Fail(preset.status());
    std::cout << preset->text;
  });
}

}  // namespace weft::client
