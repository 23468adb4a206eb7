#include "model/join_check.h"

#include "base/check.h"

namespace xcomposer {
namespace {

std::string Device(const at::Tensor& tensor) { return tensor.device().str(); }

Error::Where Where(const char* check, const at::Tensor& tokens, const at::Tensor& picture) {
  return {
      {"check", check}, {"model.tok_embeddings", Device(tokens)}, {"vision_proj", Device(picture)}};
}

std::string Sides(const at::Tensor& tokens, const at::Tensor& picture) {
  return StrCat("the rows of the picture (vit and vision_proj) are on ", Device(picture),
                ", the rows of the text (model.tok_embeddings) on ", Device(tokens));
}

}  // namespace

void CheckJoin(const at::Tensor& tokens, const at::Tensor& picture, const FeatureSpan& span) {
  if (picture.device() != tokens.device()) {
    throw Error(ErrorKind::kPlan,
                StrCat(Sides(tokens, picture),
                       "; a plan must keep vit, vision_proj, the separators and"
                       " model.tok_embeddings on one device"),
                Where("device", tokens, picture));
  }
  if (picture.scalar_type() != tokens.scalar_type()) {
    throw Error(ErrorKind::kConfig,
                StrCat("the rows of the picture are ", picture.scalar_type(),
                       ", those of the text ", tokens.scalar_type(), "; ", Sides(tokens, picture)),
                Where("type", tokens, picture));
  }
  if (picture.dim() != 2 || tokens.dim() != 2 || picture.size(1) != tokens.size(1)) {
    throw Error(ErrorKind::kConfig,
                StrCat("vision_proj gives rows of shape ", picture.sizes(),
                       ", model.tok_embeddings of ", tokens.sizes(),
                       "; their widths must be equal: the checkpoint's projector belongs to another"
                       " language model"),
                Where("width", tokens, picture));
  }
  const bool inside = span.row_count > 0 && span.first_row >= 0 && span.feature_row >= 0 &&
                      span.row_count <= tokens.size(0) - span.first_row &&
                      span.row_count <= picture.size(0) - span.feature_row;
  if (!inside) {
    throw Error(ErrorKind::kRequest,
                StrCat("the prompt has ", span.row_count, " rows for a picture from its row ",
                       span.first_row, " of ", tokens.size(0), " on, vision_proj made ",
                       picture.size(0), " rows of which they begin at ", span.feature_row),
                Where("count", tokens, picture));
  }
}

}  // namespace xcomposer
