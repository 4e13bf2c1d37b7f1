#include "client/output.h"

#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <sstream>

#include "proto/spec/parse.h"
#include "weft/v1/job.pb.h"
#include "weft/v1/queue.pb.h"

namespace weft::client {
namespace {

v1::Queue SomeQueue(const char* name) {
  v1::Queue queue;
  queue.set_name(name);
  queue.set_max_workers(3);
  return queue;
}

std::string Printed(bool as_list, OutputFormat format) {
  const v1::Queue a = SomeQueue("queues/a");
  std::ostringstream out;
  PrintMessages({&a}, as_list, format, out);
  return out.str();
}

TEST(PrintMessages, KeepsTheNamesOfTheProto) {
  EXPECT_EQ(Printed(false, OutputFormat::kJson),
            "{\n \"name\": \"queues/a\",\n \"max_workers\": 3\n}\n");
}

TEST(PrintMessages, MakesAListAnArray) {
  EXPECT_EQ(Printed(true, OutputFormat::kJson),
            "[{\n \"name\": \"queues/a\",\n \"max_workers\": 3\n}\n]\n");
}

TEST(PrintMessages, WritesYamlInBlocks) {
  EXPECT_EQ(Printed(true, OutputFormat::kYaml), "- name: queues/a\n  max_workers: 3\n");
}

TEST(PrintMessages, QuotesInYamlWhatWouldNotBeText) {
  v1::Queue queue;
  queue.set_name("1e5");
  std::ostringstream out;
  PrintMessages({&queue}, false, OutputFormat::kYaml, out);
  EXPECT_EQ(out.str(), "name: \"1e5\"\n");
}

TEST(PrintRecords, PutsUfffdWhereTextIsNoUtf8) {
  std::ostringstream out;
  PrintRecords({{{"text", "a \"\xc3\xa4\" \xff"}}}, false, OutputFormat::kJson, out);
  EXPECT_EQ(out.str(), "{\n \"text\": \"a \\\"\xc3\xa4\\\" \xef\xbf\xbd\"\n}\n");
}

TEST(PrintRecords, MakesAListASequence) {
  std::ostringstream out;
  PrintRecords({{{"name", "a"}, {"what", "b: c"}}, {{"name", "d"}}}, true, OutputFormat::kYaml,
               out);
  EXPECT_EQ(out.str(), "- name: a\n  what: \"b: c\"\n- name: d\n");
}

TEST(PrintMessages, WritesASpecThatIsReadBack) {
  v1::Job job;
  job.set_name("jobs/small-1");
  v1::JobSpec& spec = *job.mutable_spec();
  spec.set_name("12");
  spec.mutable_model()->set_norm(v1::ModelSpec::NORM_RMS);
  spec.mutable_training()->set_steps(400);
  spec.mutable_retry()->mutable_initial_backoff()->set_seconds(10);
  for (const OutputFormat format : {OutputFormat::kJson, OutputFormat::kYaml}) {
    std::ostringstream whole;
    PrintMessages({&job}, false, format, whole);
    std::ostringstream alone;
    PrintMessages({&spec}, false, format, alone);
    for (const std::string& text :
         {YAML::Dump(YAML::Load(whole.str())["spec"]), YAML::Dump(YAML::Load(alone.str()))}) {
      v1::JobSpec read;
      EXPECT_TRUE(spec::ParseSpec(text, read).empty()) << text;
      EXPECT_EQ(read.SerializeAsString(), spec.SerializeAsString()) << text;
    }
  }
}

}  // namespace
}  // namespace weft::client
