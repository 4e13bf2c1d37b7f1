// What the samples of a data set look like, as far as the spec alone tells.
#pragma once

#include <cstdint>

#include "weft/v1/data_spec.pb.h"

namespace weft::spec {

struct DataFacts {
  int32_t vocabulary = 0;    // tokens are below it; 0 if only the files tell
  int32_t classes = 0;       // of labels; 0 if the targets are tokens
  bool is_labelled = false;  // one label a sample; otherwise a target a position
  bool is_pair = false;      // two rows of tokens share a label
  bool is_padded = false;    // positions may hold nothing
  bool is_bytes = false;     // targets are bytes of a text
  bool is_generated = false;
  bool has_held_out = false;  // a validation part of its own
};

// Of a source whose defaults are filled in.
DataFacts FactsOf(const v1::DataSpec& data);

}  // namespace weft::spec
