/** esbuild takes style sheets as side-effect imports. */
declare module "*.css";
