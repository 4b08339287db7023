// In a file of its own, so that the page needs no inline script.

// An empty field of a form counts as not sent. Left alone, the page fills each with a sample, and the
// samples of all fields together are refused.
function leaveFormsEmpty(text) {
  const description = JSON.parse(text);
  for (const operations of Object.values(description.paths)) {
    for (const operation of Object.values(operations)) {
      const form = operation.requestBody?.content?.["multipart/form-data"]?.schema;
      for (const field of Object.values(form?.properties ?? {})) {
        if (!field.contentMediaType) field.example = "";
      }
    }
  }
  return JSON.stringify(description);
}

SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  displayRequestDuration: true,
  responseInterceptor: (response) => {
    if (response.url.endsWith("/openapi.json")) response.text = leaveFormsEmpty(response.text);
    return response;
  },
  validatorUrl: null, // The default asks a public service to check the schema.
});
