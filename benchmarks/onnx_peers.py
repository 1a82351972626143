"""The same U-Net in ONNX Runtime and in OpenVINO, as peers to be compared with: both run the file that
``tinydiff export --format onnx`` writes, made for one size of batch when they load it, as is their fastest."""

from __future__ import annotations


import numpy as np
import onnxruntime
import openvino

from tinydiff.backends.cores import allowed_cores
from tinydiff.interop.onnx import predict_model
from tinydiff.train import TrainConfig
from tinydiff.train.checkpoint import Checkpoint

THREADS = len(allowed_cores())


class OnnxRuntime:
    """The U-Net in ONNX Runtime; images are NHWC NumPy arrays outside.

    In float32 alone: of convolutions and matrix products its CPU provider has none in bfloat16, and the option of a
    session that lets products of float32 compute in it, ``mlas.enable_gemm_fastmath_arm64_bfloat16``, is for Arm.
    """

    def __init__(self, model, N):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.add_free_dimension_override_by_name("N", N)
        self.session = onnxruntime.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def network(self, x, step, labels):
        return self.session.run(None, {"x": x, "step": step, "labels": labels})[0]

    def tensors(self, images, *others):
        images = np.ascontiguousarray(images.transpose(0, 3, 1, 2))
        return images, *(each.astype(np.int64) if each.dtype.kind == "i" else each for each in others)

    def array(self, images):
        return images.transpose(0, 2, 3, 1)

    def guided(self, x, step, both_labels):
        """The predictions of x at one step with the first half of the labels and with the second."""
        steps = np.full(len(both_labels), step, np.float32)
        return np.split(self.network(np.concatenate([x, x]), steps, both_labels), 2)

    def inference(self, function):
        return function


class OpenVino(OnnxRuntime):
    """The U-Net in OpenVINO's CPU plugin, in "f32" or "bf16"."""

    def __init__(self, model, N, precision):
        core = openvino.Core()
        network = core.read_model(model.SerializeToString())
        network.reshape({each.any_name: [N, *list(each.partial_shape)[1:]] for each in network.inputs})
        hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": THREADS}
        self.request = core.compile_model(network, "CPU", hints).create_infer_request()

    def network(self, x, step, labels):
        feeds = {"x": x, "step": step, "labels": labels}
        return self.request.infer(feeds, share_inputs=True, share_outputs=True)[0]


def peers(libraries, config, parameters, N):
    """{variant: peer} of "onnxruntime" and "openvino", with the parameters of a tinydiff U-Net, for N samples."""
    named = {"average": parameters.to_numpy(parameters.values)}
    model = predict_model(Checkpoint(0, TrainConfig(model=config), named))
    made = {}
    if "onnxruntime" in libraries:
        made["onnxruntime"] = OnnxRuntime(model, N)
    if "openvino" in libraries:
        made["openvino"] = OpenVino(model, N, "f32")
        if "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            made["openvino, bf16"] = OpenVino(model, N, "bf16")
    return made
