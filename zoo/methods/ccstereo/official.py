"""CCStereo's published weights: a state dict of 254 (ResNet-18) or 452 (ResNet-50) entries, or the trainer's .ckpt."""

from __future__ import annotations

from zoo.checkpoints import Official, Rule

AVAD_RULES = (
    Rule(r"attn_layer\.", drop=True),  # this and the next: built by the published code, never used
    Rule(r"flow_conv\.", drop=True),
    Rule(r"param_free_norm\.", "norm."),
    Rule(r"pos_embed_a$", "audio_position"),
    Rule(r"pos_embed_v$", "visual_position"),
    Rule(r"visual_conv\.", "project."),
    Rule(r"mlp_shared\.0\.", "shared."),
    Rule(r"mlp_gamma\.", "scale."),
    Rule(r"mlp_beta\.", "shift."),
)

RULES = (
    # What the official trainer keeps beside the model: optical flow, filters and mel bands that its loss never uses.
    Rule(r"^(flow_model|sdstft|mel_scale)\.", drop=True, optional=True),
    Rule(r"^autoencoder\.", "", optional=True),
    Rule(r"^net_visual\.backbone\.feature_extraction\.0\.", "visual.backbone.layers.conv1."),
    Rule(r"^net_visual\.backbone\.feature_extraction\.1\.", "visual.backbone.layers.bn1."),
    *(
        Rule(rf"^net_visual\.backbone\.feature_extraction\.{number + 3}\.", f"visual.backbone.layers.layer{number}.")
        for number in range(1, 5)
    ),
    Rule(r"^net_visual\.segment\.reduce\.", drop=True),  # never used either
    Rule(r"^net_visual\.segment\.aspp\.", "visual.aspp."),
    Rule(r"\.map_convs\.", ".branches."),
    Rule(r"\.map_bn\.", ".branch_norm."),
    Rule(r"\.global_pooling_conv\.", ".whole."),
    Rule(r"\.global_pooling_bn\.", ".whole_norm."),
    Rule(r"\.pool_red_conv\.", ".whole_reduce."),
    Rule(r"\.red_conv\.", ".reduce."),
    Rule(r"\.red_bn\.", ".norm."),
    Rule(r"^net_audio\.aud_pos_embed\.weight$", "audio.fusion.audio_position"),
    Rule(r"^net_audio\.img_pos_embed\.weight$", "audio.fusion.visual_position"),
    Rule(r"^net_audio\.conv1x1_rgb\.", "audio.fusion.project."),
    Rule(r"^net_audio\.transformer_cross_attention_layers\.0\.multihead_attn\.", "audio.fusion.cross."),
    Rule(r"^net_audio\.transformer_cross_attention_layers\.0\.norm\.", "audio.fusion.cross_norm."),
    Rule(r"^net_audio\.transformer_self_attention_layers\.0\.self_attn\.", "audio.fusion.own."),
    Rule(r"^net_audio\.transformer_self_attention_layers\.0\.norm\.", "audio.fusion.own_norm."),
    Rule(r"^net_audio\.transformer_ffn_layers\.0\.linear1\.", "audio.fusion.mix.0."),
    Rule(r"^net_audio\.transformer_ffn_layers\.0\.linear2\.", "audio.fusion.mix.2."),
    Rule(r"^net_audio\.transformer_ffn_layers\.0\.norm\.", "audio.fusion.mix_norm."),
    *(Rule(rf"^net_audio\.audionet_convlayer{number + 1}\.", f"audio.encoder.layers.{number}.") for number in range(5)),
    *(
        Rule(rf"^net_audio\.audionet_upconvlayer{number + 1}\.upconv\.", f"audio.decoder.layers.{number}.")
        for number in range(5)
    ),
    *(
        Rule(rf"^net_audio\.audionet_upconvlayer{number + 1}\.upnorm\.", f"audio.decoder.norms.{number}.")
        for number in range(4)
    ),
    *AVAD_RULES,
)

OFFICIAL = Official(RULES, version=1, key=None)
