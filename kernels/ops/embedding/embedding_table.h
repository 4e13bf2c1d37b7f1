// Who implements embedding where. For op code only.
#pragma once

#include "kernels/device/op_table.h"
#include "kernels/ops/embedding/embedding.h"

namespace weft::kernels::internal {

inline OpTable<decltype(EmbeddingForward)> embedding_forward{"EmbeddingForward"};
inline OpTable<decltype(EmbeddingBackward)> embedding_backward{"EmbeddingBackward"};

void RegisterCpuEmbedding();
void RegisterReferenceEmbedding();
void RegisterCudaEmbedding();

}  // namespace weft::kernels::internal
