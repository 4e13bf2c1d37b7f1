// weft-rank: one rank of a training job, or (`weft-rank sample`) text from a checkpoint.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <iostream>
#include <string>
#include <utility>

#include "common/base/exit_codes.h"
#include "common/base/status_macros.h"
#include "common/file/standard_output.h"
#include "kernels/attention/register.h"
#include "kernels/ops/register.h"
#include "worker/rank/agent_link.h"
#include "worker/rank/print_data_command.h"
#include "worker/rank/sample_command.h"
#include "worker/rank/train_command.h"

namespace weft::worker {
namespace {

void RegisterKernels() {
  kernels::RegisterCpuKernels();
  kernels::RegisterCpuAttention();
  kernels::RegisterCudaKernels();
  kernels::RegisterCudaAttention();
}

ExitCode Ended(const absl::Status& status) {
  if (!status.ok()) {
    const std::string message(status.message());
    std::fprintf(stderr, "weft-rank: %s\n", message.c_str());
  }
  return ExitCodeOf(status.code());
}

void AddPrintData(CLI::App& app, PrintDataRequest& request) {
  CLI::App* print = app.add_subcommand(
      "print-data", "Print samples of the data that a spec on standard input names");
  print->add_flag("--validation", request.validation, "Of the validation split");
  print->add_option("--first", request.first, "Number of the first sample")
      ->check(CLI::NonNegativeNumber);
  print->add_option("--count", request.count, "How many samples")->check(CLI::PositiveNumber);
}

absl::Status PrintDataToOutput(const PrintDataRequest& request) {
  std::signal(SIGPIPE, SIG_DFL);  // a reader that has seen enough ends us, and nothing is wrong
  WEFT_RETURN_IF_ERROR(PrintData(request, std::cin, std::cout));
  return FlushStandardOutput();
}

int Main(int argc, char** argv) {
  // A reader that has gone is an error of the write, not the end of the process.
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app(
      "One rank of a training job. Without a subcommand it is started by weft-worker, with "
      "descriptor 3 as the line to it.");
  SampleRequest request;
  CLI::App* sample =
      app.add_subcommand("sample", "Generate text from a checkpoint of a byte model");
  sample->add_option("--checkpoint", request.checkpoint, "The checkpoint's directory")->required();
  sample->add_option("--prompt", request.prompt, "Text to continue");
  sample->add_option("--tokens", request.options.tokens, "How many to generate")
      ->capture_default_str();
  sample->add_option("--temperature", request.options.temperature, "0: always the likeliest")
      ->capture_default_str();
  sample->add_option("--top_k", request.options.top_k, "Draw from the k likeliest; 0: all")
      ->capture_default_str();
  sample->add_option("--seed", request.options.seed, "Equal seeds give equal texts")
      ->capture_default_str();
  sample->add_option("--threads", request.threads, "Threads to compute with")
      ->capture_default_str();
  PrintDataRequest print;
  AddPrintData(app, print);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  if (app.got_subcommand("print-data")) return Ended(PrintDataToOutput(print));
  RegisterKernels();
  if (sample->parsed()) return Ended(SampleToDescriptor(request, STDOUT_FILENO));
  return TrainForAgent(FileDescriptor(AgentLink::kDescriptor));
}

}  // namespace
}  // namespace weft::worker

int main(int argc, char** argv) { return weft::worker::Main(argc, argv); }
