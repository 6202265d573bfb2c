/* SPDX-License-Identifier: MPL-2.0
 *
 * Reads captions in C, from the buffers and from the bus; no header of ours is needed.
 *
 *   cc examples/readers/read_captions.c -o read_captions \
 *       $(pkg-config --cflags --libs gstreamer-1.0)
 *   GST_PLUGIN_PATH=target/release ./read_captions ['... ! vlmcaption ! ...'] */

#include <gst/gst.h>

static GstPadProbeReturn
on_buffer (GstPad *pad, GstPadProbeInfo *info, gpointer last)
{
  GstBuffer *buffer = GST_PAD_PROBE_INFO_BUFFER (info);
  GstCustomMeta *meta = gst_buffer_get_custom_meta (buffer, "GstVlmCaptionMeta");
  GstClockTime second = GST_BUFFER_PTS (buffer) / GST_SECOND;

  if (meta != NULL && second != *(GstClockTime *) last) {
    GstStructure *caption = gst_custom_meta_get_structure (meta);
    const gchar *text = gst_structure_get_string (caption, "text");
    const gchar *status = gst_structure_get_string (caption, "status");
    guint64 age = 0;

    *(GstClockTime *) last = second;
    /* There is no age before the first caption. */
    gst_structure_get_uint64 (caption, "age", &age);
    g_print ("meta     %" G_GUINT64_FORMAT " s: %s, %.2f s old: %s\n", second, status,
        (gdouble) age / GST_SECOND, text);
  }
  return GST_PAD_PROBE_OK;
}

int
main (int argc, char **argv)
{
  const gchar *line = argc > 1 ? argv[1] :
      "videotestsrc is-live=true num-buffers=180 ! video/x-raw,framerate=30/1 "
      "! vlmcaption window=2 ! fakesink name=sink sync=true";
  GstClockTime last = GST_CLOCK_TIME_NONE;
  GError *error = NULL;
  gboolean good = TRUE, running = TRUE;

  gst_init (&argc, &argv);
  GstElement *pipeline = gst_parse_launch (line, &error);
  if (error != NULL)
    g_error ("%s", error->message);
  GstElement *sink = gst_bin_get_by_name (GST_BIN (pipeline), "sink");
  GstPad *pad = gst_element_get_static_pad (sink, "sink");
  gst_pad_add_probe (pad, GST_PAD_PROBE_TYPE_BUFFER, on_buffer, &last, NULL);
  gst_element_set_state (pipeline, GST_STATE_PLAYING);

  GstBus *bus = gst_element_get_bus (pipeline);
  while (running) {
    GstMessage *message = gst_bus_timed_pop (bus, GST_CLOCK_TIME_NONE);
    const GstStructure *caption = gst_message_get_structure (message);

    if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_ERROR) {
      gst_message_parse_error (message, &error, NULL);
      g_printerr ("%s\n", error->message);
      good = running = FALSE;
    } else if (GST_MESSAGE_TYPE (message) == GST_MESSAGE_EOS) {
      running = FALSE;
    } else if (gst_message_has_name (message, "vlmcaption/caption")) {
      guint64 start = 0, end = 0;

      gst_structure_get_uint64 (caption, "start", &start);
      gst_structure_get_uint64 (caption, "end", &end);
      g_print ("message  %.1f s - %.1f s: %s\n", (gdouble) start / GST_SECOND,
          (gdouble) end / GST_SECOND, gst_structure_get_string (caption, "text"));
    }
    gst_message_unref (message);
  }
  gst_element_set_state (pipeline, GST_STATE_NULL);
  gst_object_unref (bus);
  gst_object_unref (pad);
  gst_object_unref (sink);
  gst_object_unref (pipeline);
  return good ? 0 : 1;
}
