// weft sample.

#include <iostream>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/commands.h"
#include "client/output.h"
#include "client/terminal.h"
#include "client/within.h"
#include "common/base/status_macros.h"
#include "common/base/utf8.h"
#include "weft/v1/checkpoint.grpc.pb.h"

namespace weft::client {
namespace {

struct SampleFlags {
  std::string job;
  int64_t step = 0;
  std::string prompt;
  int32_t tokens = 200;
  double temperature = 0.8;
  int32_t top_k = 0;
  uint64_t seed = 0;
};

std::string CheckText(const std::string& text) { return IsUtf8(text) ? "" : "must be UTF-8"; }

absl::Status Sample(Session& session, const SampleFlags& flags) {
  WEFT_ASSIGN_OR_RETURN(std::string name, session.FindJob(flags.job));
  if (flags.step > 0) absl::StrAppend(&name, "/checkpoints/", flags.step);
  WEFT_ASSIGN_OR_RETURN(auto channel, session.Connect());
  auto stub = v1::CheckpointService::NewStub(channel);
  v1::SampleTextRequest request;
  request.set_name(name);
  request.set_prompt(flags.prompt);
  request.set_tokens(flags.tokens);
  request.set_temperature(flags.temperature);
  request.set_top_k(flags.top_k);
  request.set_seed(flags.seed);
  grpc::ClientContext context;  // as long as the text takes
  auto stream = stub->SampleText(&context, request);
  v1::SampleTextResponse piece;
  if (IsForPrograms(session.output)) {
    std::string whole = flags.prompt;
    while (stream->Read(&piece)) whole += piece.text();
    WEFT_RETURN_IF_ERROR(session.Finished(stream->Finish()));
    PrintRecords({{{"text", whole}}}, /*as_list=*/false, session.output, std::cout);
    return absl::OkStatus();
  }
  const bool to_terminal = StdoutIsTerminal();
  bool begun = false;  // an error prints nothing but itself
  while (stream->Read(&piece)) {
    if (!std::exchange(begun, true)) std::cout << flags.prompt;
    std::cout << (to_terminal ? ForTerminal(piece.text()) : piece.text()) << std::flush;
  }
  if (begun) std::cout << '\n';
  return session.Finished(stream->Finish());
}

}  // namespace

void AddSample(CLI::App& app, Session& session) {
  auto flags = std::make_shared<SampleFlags>();
  CLI::App* command = app.add_subcommand("sample", "Generate text with a job's checkpoint");
  command->footer(
      "-o json or yaml print one object with the field text, in which what is no UTF-8 is U+FFFD; "
      "without -o, files and pipes get the model's bytes.");
  command->add_option("JOB", flags->job, "Its id, or its spec's name for the newest one")
      ->required();
  command->add_option("--step", flags->step, "The checkpoint of this step; default: the newest")
      ->check(Within<int64_t>(1));
  command->add_option("-p,--prompt", flags->prompt, "What the text starts with")
      ->check(CLI::Validator(CheckText, ""));
  command->add_option("-n,--tokens", flags->tokens, "How many tokens to generate")
      ->check(Within(1, 65536))
      ->capture_default_str();
  command->add_option("-t,--temperature", flags->temperature, "0: always the likeliest token")
      ->check(Within(0.0))
      ->capture_default_str();
  command->add_option("--top-k", flags->top_k, "Choose among the K likeliest; 0: all")
      ->check(Within<int32_t>(0))
      ->capture_default_str();
  command->add_option("--seed", flags->seed)->capture_default_str();
  command->callback([flags, &session] { session.Fail(Sample(session, *flags)); });
}

}  // namespace weft::client
